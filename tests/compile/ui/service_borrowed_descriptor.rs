#[jsoncomm::service(name = "example.files")]
trait Files {
    fn put(&mut self, #[fd] content: &std::os::fd::OwnedFd) -> Result<(), String>;
    fn store(&mut self, #[fd] content: std::os::fd::BorrowedFd<'_>) -> Result<(), String>;
}

fn main() {}
