use jsoncomm::Message;

#[derive(Message)]
enum Either {
    #[serde(with = "module")]
    Number(u8),
}

fn main() {}
