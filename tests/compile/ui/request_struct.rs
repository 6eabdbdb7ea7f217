use jsoncomm::Message;

#[derive(Message)]
#[message(reply = ())]
struct Ask {
    number: u8,
}

fn main() {}
