use jsoncomm::Message;

#[derive(Message)]
struct Pair(#[serde(default)] u8, u8);

fn main() {}
