#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Vec<String>;

    #[cfg(unix)]
    fn count(&mut self) -> u64
    where
        Self: Sized + Clone;
}

fn main() {}
