use jsoncomm::Message;

#[derive(Message)]
struct Number {
    #[message(serde)]
    number: u8,
}

fn main() {}
