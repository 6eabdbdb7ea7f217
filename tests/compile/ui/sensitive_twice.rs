use jsoncomm::Message;

#[derive(Message)]
struct Login {
    #[sensitive]
    #[sensitive]
    password: String,
}

fn main() {}
