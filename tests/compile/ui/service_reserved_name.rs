#[allow(non_camel_case_types)]
type __S = u8;

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self, path: Vec<__S>) -> u8;
    fn size(&mut self, #[serde(default = "__default")] path: u8) -> Option<__S>;
}

fn __default() -> u8 {
    7
}

fn main() {}
