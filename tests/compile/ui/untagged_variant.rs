use jsoncomm::Message;

#[derive(Message)]
enum Either {
    Number(u8),
    #[serde(untagged)]
    Text(String),
}

fn main() {}
