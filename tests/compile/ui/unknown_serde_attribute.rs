use jsoncomm::Message;

#[derive(Message)]
#[serde(deny_unknown)]
struct Number {
    #[serde(renamed = "n")]
    number: u8,
}

fn main() {}
