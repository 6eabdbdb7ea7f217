#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self, #[cfg(unix)] all: bool) -> Vec<String>;
}

fn main() {}
