use jsoncomm::Message;

#[derive(Message)]
#[serde(transparent)]
struct Pair(u8, u8);

fn main() {}
