use jsoncomm::Message;
use serde::{Deserialize, Serialize};

#[derive(Message)]
struct Options {
    deep: bool,
}

#[derive(Serialize, Deserialize)]
struct Foreign(u8);

#[derive(Message)]
struct Mixed {
    pairs: Vec<(Options, Foreign)>,
}

#[derive(Message)]
struct Generic<T> {
    pairs: Vec<(Options, T)>,
}

fn main() {}
