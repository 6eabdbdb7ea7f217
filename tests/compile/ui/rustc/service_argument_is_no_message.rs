struct Options;

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self, options: &Options) -> u8;
}

fn main() {}
