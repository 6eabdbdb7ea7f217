use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(file)]
    file: OwnedFd,
    #[fd(memfd(writable))]
    memory: OwnedFd,
}

fn main() {}
