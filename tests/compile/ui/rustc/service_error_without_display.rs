#[derive(jsoncomm::Message)]
enum Trouble {
    Denied,
}

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Result<Vec<String>, Trouble>;
}

fn main() {}
