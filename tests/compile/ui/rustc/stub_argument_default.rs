type Mode = std::collections::BTreeSet<u8>;

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, mode: Mode) -> u8;
}

fn call(files: &FilesClient) {
    let _ = files.open(Default::default());
}

fn main() {}
