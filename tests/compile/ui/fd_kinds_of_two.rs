use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct File {
    #[fd(pipe, directory)]
    file: OwnedFd,
    #[fd(regular, memfd(sealed))]
    payload: OwnedFd,
}

fn main() {}
