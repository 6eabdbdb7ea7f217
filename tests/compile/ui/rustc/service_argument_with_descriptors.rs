use jsoncomm::Message;
use std::os::fd::OwnedFd;

#[derive(Message)]
struct Opened {
    #[fd]
    file: OwnedFd,
}

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn keep(&mut self, opened: Opened) -> u8;
}

fn main() {}
