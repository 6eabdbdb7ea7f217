use jsoncomm::Message;

#[derive(Message)]
#[serde(tag = "kind", content = "of")]
struct Number {
    number: u8,
}

fn main() {}
