use jsoncomm::Message;

#[derive(Message)]
#[serde(untagged)]
enum Either {
    Number(u8),
    Text(String),
}

fn main() {}
