use jsoncomm::Message;

#[derive(Message)]
struct Numbers {
    a: u8,
    #[serde(alias = "a")]
    b: u8,
}

fn main() {}
