#[jsoncomm::service(name = "example.files")]
trait Files {}

fn main() {}
