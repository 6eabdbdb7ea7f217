use jsoncomm::Message;

#[derive(Message)]
struct Shown {
    whole: ToString+,
    #[serde(skip)]
    inside: Option<Box<std::fmt::Display + Send>>,
    function: fn(&'static (ToString + Send)) -> u8,
}

fn main() {}
