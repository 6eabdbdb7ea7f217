use jsoncomm::Message;

struct Plain;

#[derive(Message)]
#[message(reply = Plain)]
enum Ask {
    Stop,
}

fn main() {}
