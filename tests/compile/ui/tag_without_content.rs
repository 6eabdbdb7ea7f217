use jsoncomm::Message;

#[derive(Message)]
#[serde(tag = "kind")]
enum Either {
    Number { number: u8 },
}

fn main() {}
