#[jsoncomm::service(name = "example.files")]
trait Files {
    #[cfg(unix)]
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
