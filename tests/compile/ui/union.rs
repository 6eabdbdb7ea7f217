use jsoncomm::Message;

#[derive(Message)]
union Either {
    number: u8,
    letter: u8,
}

fn main() {}
