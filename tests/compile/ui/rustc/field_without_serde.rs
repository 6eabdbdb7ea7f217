use jsoncomm::Message;

struct Plain;

#[derive(Message)]
struct Outer {
    plain: Plain,
}

fn main() {}
