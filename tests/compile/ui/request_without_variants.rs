use jsoncomm::Message;

#[derive(Message)]
#[message(reply = ())]
enum Ask {}

fn main() {}
