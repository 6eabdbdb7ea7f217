use jsoncomm::Message;

#[derive(Message)]
#[serde(transparent)]
enum Either {
    Number(u8),
}

fn main() {}
