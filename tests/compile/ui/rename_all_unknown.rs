use jsoncomm::Message;

#[derive(Message)]
#[serde(rename_all = "Snake")]
struct Number(u8);

fn main() {}
