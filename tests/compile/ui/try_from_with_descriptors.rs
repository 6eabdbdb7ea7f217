use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
#[serde(try_from = "Raw")]
struct File {
    #[fd]
    file: OwnedFd,
}

fn main() {}
