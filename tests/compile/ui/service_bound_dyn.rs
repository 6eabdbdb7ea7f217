#[jsoncomm::service(name = "example.files")]
trait Files: Sized
where
    Self: Send + std::marker::Sized,
    Self: AsRef<[Self]> + AsRef<str>,
    Vec<String>: Into<Self>,
{
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
