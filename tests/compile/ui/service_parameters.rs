#[jsoncomm::service(name = "example.files")]
trait Files<T> {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
