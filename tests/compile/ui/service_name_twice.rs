#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Vec<String>;
    #[serde(rename = "list")]
    fn names(&mut self) -> Vec<String>;
    #[serde(alias = "names", alias = "every.one", alias = "names")]
    fn all(&mut self) -> Vec<String>;
}

fn main() {}
