use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd()]
    file: OwnedFd,
}

fn main() {}
