#[jsoncomm::service(name = "example.files")]
trait Files {
    fn put(&mut self, content: std::os::fd::OwnedFd) -> Result<u64, String>;
}

fn main() {}
