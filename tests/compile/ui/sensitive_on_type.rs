use jsoncomm::Message;

#[derive(Message)]
#[sensitive]
struct Login {
    password: String,
}

fn main() {}
