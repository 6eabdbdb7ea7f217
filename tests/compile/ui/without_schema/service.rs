#[jsoncomm::service(name = "example.files", schema)]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
