use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd]
    #[serde(with = "module")]
    file: OwnedFd,
}

fn main() {}
