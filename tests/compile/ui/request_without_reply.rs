use jsoncomm::Message;

#[derive(Message)]
#[message(service = "example.jobs", error = u8)]
enum Ask {
    Stop,
}

fn main() {}
