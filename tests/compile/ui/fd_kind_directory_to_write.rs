use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(directory, write)]
    place: OwnedFd,
}

fn main() {}
