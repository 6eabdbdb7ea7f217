use jsoncomm::Message;
use jsoncomm::message::Unknown;

#[derive(Message)]
enum Reply {
    #[message(other)]
    Empty,
    #[message(other)]
    Second(Unknown),
    #[message(rest)]
    Rest(Unknown),
}

#[derive(Message)]
enum Renamed {
    #[message(other)]
    #[serde(rename = "else")]
    Other(Unknown),
}

#[derive(Message)]
#[message(reply = Renamed)]
enum Request {
    #[message(other)]
    Other(Unknown),
}

fn main() {}
