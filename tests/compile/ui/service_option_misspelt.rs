#[jsoncomm::service(name = "example.files", schemas)]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
