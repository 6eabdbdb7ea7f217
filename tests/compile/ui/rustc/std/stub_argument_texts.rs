#[jsoncomm::service(name = "example.files")]
trait Files {
    fn remove(&mut self, paths: Vec<String>) -> u8;
}

fn call(files: &FilesClient) {
    let _ = files.remove(["a", "b"]);
}

fn main() {}
