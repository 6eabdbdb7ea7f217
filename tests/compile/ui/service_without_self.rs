#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list() -> Vec<String>;
    fn into_list(self) -> Vec<String>;
}

fn main() {}
