use jsoncomm::Message;

#[derive(Message)]
#[serde(content = "of")]
enum Either {
    Number(u8),
}

fn main() {}
