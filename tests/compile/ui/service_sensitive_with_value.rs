#[jsoncomm::service(name = "example.door")]
trait Door {
    fn open(&mut self, #[sensitive = "x"] pin: u16) -> bool;
}

fn main() {}
