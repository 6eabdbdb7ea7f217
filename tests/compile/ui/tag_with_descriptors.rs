use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
#[serde(tag = "kind")]
enum Either {
    File {
        #[fd]
        file: OwnedFd,
    },
}

fn main() {}
