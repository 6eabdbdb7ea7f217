#[jsoncomm::service(name = "example.files")]
trait Files {
    fn name(&self) -> &str;
    fn names(&self) -> Result<Vec<&'static str>, String>;
}

fn main() {}
