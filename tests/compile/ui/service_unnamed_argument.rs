#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, _: &str) -> Result<(), String>;
}

fn main() {}
