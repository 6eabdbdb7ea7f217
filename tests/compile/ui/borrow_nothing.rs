use jsoncomm::Message;

#[derive(Message)]
struct Text {
    #[serde(borrow)]
    text: String,
}

fn main() {}
