use jsoncomm::Message;

#[derive(Message)]
struct File {
    #[fd(0)]
    file: u8,
    #[fd = "regular"]
    other: u8,
}

fn main() {}
