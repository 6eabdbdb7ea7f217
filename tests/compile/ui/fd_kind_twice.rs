use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(read, regular, read)]
    file: OwnedFd,
}

fn main() {}
