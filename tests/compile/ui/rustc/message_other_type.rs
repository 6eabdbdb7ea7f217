use jsoncomm::Message;

#[derive(Message)]
enum Reply {
    #[message(other)]
    Other(String),
}

fn main() {}
