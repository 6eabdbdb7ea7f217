use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
#[fd]
struct File(OwnedFd);

fn main() {}
