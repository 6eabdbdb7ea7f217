#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, path: &'static str, mode: Option<&'static str>) -> Result<(), String>;
}

fn main() {}
