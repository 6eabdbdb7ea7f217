#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self, #[serde(borrow)] path: &str) -> u8;
}

fn main() {}
