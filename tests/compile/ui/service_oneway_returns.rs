#[jsoncomm::service(name = "example.files")]
trait Files {
    #[oneway]
    fn forget(&mut self, path: &str) -> Result<(), String>;
}

fn main() {}
