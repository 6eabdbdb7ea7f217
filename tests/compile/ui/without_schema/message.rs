#[derive(jsoncomm::Message)]
#[message(schema)]
struct Opened {
    len: u64,
}

fn main() {}
