use jsoncomm::Message;

#[derive(Message)]
struct Shown {
    text: impl ToString,
    all: Vec<_>,
}

fn main() {}
