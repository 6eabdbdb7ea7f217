type Mode = std::net::Ipv4Addr;

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, mode: Mode) -> u8;
}

fn call(files: &FilesClient, mode: &str) {
    let _ = files.open(mode.parse().unwrap());
}

fn main() {}
