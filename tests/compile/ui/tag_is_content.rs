use jsoncomm::Message;

#[derive(Message)]
#[serde(tag = "kind", content = "kind")]
enum Either {
    Number(u8),
}

fn main() {}
