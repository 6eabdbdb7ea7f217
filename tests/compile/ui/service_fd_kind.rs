#[jsoncomm::service(name = "example.files")]
trait Files {
    fn put(&mut self, #[fd(pipe, regular)] file: std::os::fd::OwnedFd) -> u64;
    #[fd(regular)]
    fn get(&mut self) -> std::os::fd::OwnedFd;
}

fn main() {}
