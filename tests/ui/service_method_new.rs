#[jsoncomm::service(name = "example.files")]
trait Files {
    fn new(&mut self) -> Result<u64, String>;
}

fn main() {}
