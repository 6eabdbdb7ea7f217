#[jsoncomm::service(name = "rpc.files")]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
