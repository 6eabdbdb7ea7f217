#[jsoncomm::service(name = "example.files")]
trait Files
where
    Self: Sized,
{
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
