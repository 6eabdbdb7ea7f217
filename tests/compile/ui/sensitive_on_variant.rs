use jsoncomm::Message;

#[derive(Message)]
enum Ask {
    #[sensitive]
    Login { password: String },
}

fn main() {}
