use jsoncomm::Message;

#[derive(Message)]
#[serde(default)]
enum Either {
    Number(u8),
}

fn main() {}
