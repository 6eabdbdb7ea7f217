use jsoncomm::Message;

#[derive(Message)]
struct Number {
    #[serde(default = "1 + 1")]
    number: u8,
    #[serde(rename = 5)]
    other: u8,
}

fn main() {}
