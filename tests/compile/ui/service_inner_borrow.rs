#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, paths: Vec<&str>) -> Result<(), String>;
}

fn main() {}
