use jsoncomm::Message;

#[derive(Message)]
#[message(name = "n")]
struct Number(u8);

fn main() {}
