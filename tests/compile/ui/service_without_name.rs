#[jsoncomm::service]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
