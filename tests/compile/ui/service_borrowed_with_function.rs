#[jsoncomm::service(name = "example.files")]
trait Files {
    fn open(&mut self, #[serde(default = "home")] path: &str) -> Result<(), String>;
    fn list(&mut self, #[serde(with = "hex")] bytes: &[u8]) -> Result<(), String>;
    fn log(
        &mut self,
        #[fd]
        #[serde(skip_serializing_if = "Option::is_none")]
        sink: Option<std::fs::File>,
    ) -> Result<(), String>;
}

fn main() {}
