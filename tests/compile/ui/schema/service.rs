#[derive(serde::Serialize, serde::Deserialize)]
struct Foreign;

#[jsoncomm::service(name = "example.files", schema)]
trait Files {
    fn put(&mut self, what: Foreign) -> bool;
}

fn main() {}
