use jsoncomm::Message;

#[derive(Message)]
#[message(reply = ())]
enum Ask<'a> {
    Run { program: &'a str },
}

fn main() {}
