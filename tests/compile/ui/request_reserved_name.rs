use jsoncomm::Message;

#[derive(Message)]
#[message(service = "rpc.jobs", reply = ())]
enum Ask {
    Stop,
}

fn main() {}
