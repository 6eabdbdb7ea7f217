// Errors about a stub's method, and so editors, lead to the trait.
#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, path: &str, flags: u32) -> u64;
    fn size(&mut self) -> u64;
}

fn main() {}

fn call(files: &FilesClient) {
    let _ = files.open("a", "b");
    let _ = files.size(1);
    let _: () = files.sizes();
}
