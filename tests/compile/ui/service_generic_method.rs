#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list<T>(&mut self, kind: T) -> Vec<String>;
}

fn main() {}
