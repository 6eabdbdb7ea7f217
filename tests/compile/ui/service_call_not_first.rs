#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, path: &str, call: &mut jsoncomm::Call) -> Result<(), String>;
}

fn main() {}
