#[jsoncomm::service(name = "example.files", version = "1")]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
