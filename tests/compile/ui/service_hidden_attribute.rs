#[jsoncomm::service(name = "example.files")]
trait Files {
    #[cfg_attr(unix, oneway)]
    fn log(&mut self, line: &str) -> u8;
    #[cfg_attr(unix, doc = "All names.", cfg(unix))]
    fn list(&mut self) -> Vec<String>;
}

fn main() {}
