use jsoncomm::Message;
use jsoncomm::message::UnknownVariant;

#[derive(Message)]
enum Reply {
    #[message(other)]
    Empty,
    #[message(other)]
    Second(UnknownVariant),
    #[message(rest)]
    Rest(UnknownVariant),
}

#[derive(Message)]
enum Renamed {
    #[message(other)]
    #[serde(rename = "else")]
    Other(UnknownVariant),
}

#[derive(Message)]
#[message(reply = Renamed)]
enum Request {
    #[message(other)]
    Other(UnknownVariant),
}

fn main() {}
