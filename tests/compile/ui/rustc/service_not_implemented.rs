use jsoncomm::{Kind, Limits, Server};

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

struct Daemon;

fn main() {
    let mut server = Server::<Daemon>::new(Limits::default()).unwrap();
    server.bind("s", Kind::Datagram).unwrap().serve::<dyn Files>();
}
