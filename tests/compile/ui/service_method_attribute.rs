#[jsoncomm::service(name = "example.files")]
trait Files {
    #[serde(rename_all = "camelCase")]
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
