#[jsoncomm::service(name = "example.files")]
struct Files;

fn main() {}
