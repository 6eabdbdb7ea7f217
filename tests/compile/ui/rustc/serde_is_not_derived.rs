use jsoncomm::Message;

#[derive(Message)]
#[message(serde)]
struct Number(u8);

fn main() {}
