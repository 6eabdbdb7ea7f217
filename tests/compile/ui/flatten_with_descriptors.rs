use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct Inner {
    #[fd]
    file: OwnedFd,
}

#[derive(Message)]
struct Outer {
    #[fd]
    #[serde(flatten)]
    inner: Inner,
}

fn main() {}
