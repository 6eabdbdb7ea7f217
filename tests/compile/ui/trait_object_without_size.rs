use jsoncomm::Message;

#[derive(Message)]
struct Shown {
    text: dyn ToString + Send,
}

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self) -> dyn ToString;
}

fn main() {}
