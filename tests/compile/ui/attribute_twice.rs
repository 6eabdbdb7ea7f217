use jsoncomm::Message;

#[derive(Message)]
struct Number {
    #[serde(rename = "a", rename = "b")]
    number: u8,
}

fn main() {}
