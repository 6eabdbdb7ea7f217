#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Vec<String>
    where
        Self: std::fmt::Debug;

    fn count(&mut self) -> u64
    where
        Vec<String>: From<Self>,
        Box<Self>: Sized;
}

fn main() {}
