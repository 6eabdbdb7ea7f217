use jsoncomm::Message;

#[derive(Message)]
#[message(service = "example.jobs", reply = ())]
enum Ask {
    #[serde(skip)]
    Stop,
    #[serde(alias = "halt")]
    Wait,
    #[serde(rename(serialize = "in", deserialize = "out"))]
    Go,
}

fn main() {}
