use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(pidfd, read)]
    process: OwnedFd,
    #[fd(write, socket(datagram))]
    log: OwnedFd,
}

fn main() {}
