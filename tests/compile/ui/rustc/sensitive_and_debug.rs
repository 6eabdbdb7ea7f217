use jsoncomm::Message;

#[derive(Debug, Message)]
struct Login {
    #[sensitive]
    password: String,
}

fn main() {}
