#[jsoncomm::service(name = "example.files")]
unsafe trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
