#[jsoncomm::service(name = "example.files")]
trait Files {
    const LIMIT: usize;
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
