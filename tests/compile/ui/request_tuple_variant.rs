use jsoncomm::Message;

#[derive(Message)]
#[message(service = "example.jobs", reply = ())]
enum Ask {
    Run(String),
}

fn main() {}
