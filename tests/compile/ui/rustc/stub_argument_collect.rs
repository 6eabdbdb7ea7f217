#[jsoncomm::service(name = "example.files")]
trait Files {
    fn remove(&mut self, paths: Vec<String>) -> u8;
}

fn call(files: &FilesClient, paths: std::str::Lines<'_>) {
    let _ = files.remove(paths.map(str::to_owned).collect());
}

fn main() {}
