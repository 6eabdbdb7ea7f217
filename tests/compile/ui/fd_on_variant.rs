use jsoncomm::Message;

#[derive(Message)]
enum Either {
    #[fd]
    File(u8),
}

fn main() {}
