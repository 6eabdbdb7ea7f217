use jsoncomm::Message;

#[derive(Message)]
enum Either {
    Known,
    #[serde(other)]
    Unknown,
}

fn main() {}
