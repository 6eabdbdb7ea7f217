use jsoncomm::Message;

#[derive(Message)]
#[serde(from = "u8", into = "u8")]
struct Number(u8);

fn main() {}
