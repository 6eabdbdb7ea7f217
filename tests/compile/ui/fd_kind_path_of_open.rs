use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(memfd, path)]
    file: OwnedFd,
    #[fd(path, socket(stream))]
    other: Vec<OwnedFd>,
}

fn main() {}
