#[jsoncomm::service(name = "example.files")]
trait Files {
    fn forget(&mut self, path: &str);
    fn drop_all(&mut self) -> ();
}

fn main() {}
