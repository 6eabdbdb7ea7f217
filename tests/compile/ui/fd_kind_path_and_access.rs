use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(path, write)]
    file: OwnedFd,
    #[fd(read, regular, path)]
    other: Option<OwnedFd>,
}

fn main() {}
