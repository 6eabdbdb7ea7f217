#[jsoncomm::service(name = "example.files")]
trait Files {
    fn remove(&mut self, paths: Vec<String>) -> u8;
}

fn call(files: &FilesClient, paths: Box<[String]>) {
    let _ = files.remove(paths.into());
}

fn main() {}
