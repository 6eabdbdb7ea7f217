use jsoncomm::Message;

#[derive(Message)]
#[repr(packed)]
struct Opened {
    len: u64,
    #[fd]
    file: std::fs::File,
}

fn main() {}
