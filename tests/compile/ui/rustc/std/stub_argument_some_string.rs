#[jsoncomm::service(name = "example.files")]
trait Files {
    fn find(&mut self, name: Option<String>) -> u8;
}

fn call(files: &FilesClient, name: String) {
    let _ = files.find(Some(name));
}

fn main() {}
