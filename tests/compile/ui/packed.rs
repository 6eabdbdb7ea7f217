use jsoncomm::Message;

#[derive(Message)]
#[repr(C, packed(2))]
struct Point {
    x: u8,
    y: u64,
}

fn main() {}
