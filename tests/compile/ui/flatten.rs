use jsoncomm::Message;

#[derive(Message)]
struct Outer {
    #[serde(flatten)]
    inner: std::collections::BTreeMap<String, u8>,
}

fn main() {}
