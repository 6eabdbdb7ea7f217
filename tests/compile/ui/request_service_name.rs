use jsoncomm::Message;

#[derive(Message)]
#[message(service = "example jobs", reply = ())]
enum Ask {
    Stop,
}

fn main() {}
