#[jsoncomm::service(name = "example.files")]
trait Files {
    async fn list(&mut self) -> Vec<String>;
}

fn main() {}
