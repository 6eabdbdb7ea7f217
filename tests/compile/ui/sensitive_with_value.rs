use jsoncomm::Message;

#[derive(Message)]
struct Login {
    #[sensitive = "x"]
    password: String,
    #[sensitive(true)]
    pin: u16,
}

fn main() {}
