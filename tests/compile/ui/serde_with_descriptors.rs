use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
#[message(serde)]
struct File {
    #[fd]
    file: OwnedFd,
}

fn main() {}
