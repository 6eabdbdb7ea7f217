#[jsoncomm::service(name = "example.files")]
trait Files {
    #[oneway(always)]
    fn forget(&mut self, path: &str);
}

fn main() {}
