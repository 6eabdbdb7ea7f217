#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, path: Box<AsRef<str> + Send>) -> Vec<Box<ToString + Send>>;
}

fn main() {}
