use jsoncomm::Message;

struct Plain;

#[derive(Message)]
struct Outer {
    #[fd]
    plain: Plain,
}

fn main() {}
