use jsoncomm::Message;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct User(u32);

#[derive(Message)]
struct Login {
    user: User,
    #[sensitive]
    password: String,
}

fn main() {}
