use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
#[serde(untagged)]
enum Either {
    Number(u8),
    File(#[fd] OwnedFd),
}

fn main() {}
