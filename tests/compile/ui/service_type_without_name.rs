#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, path: Option<impl ToString>) -> Vec<_>;
}

fn main() {}
