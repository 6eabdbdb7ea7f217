#[jsoncomm::service(name = "example.files", edition = 1)]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
