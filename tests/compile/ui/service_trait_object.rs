#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, path: &(dyn AsRef<str> + Send)) -> u32;
}

fn main() {}
