use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct Opened {
    #[fd]
    file: OwnedFd,
}

#[derive(Message)]
struct Listing {
    all: Vec<Opened>,
}

fn main() {}
