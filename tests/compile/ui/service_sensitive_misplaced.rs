#[jsoncomm::service(name = "example.door")]
#[sensitive]
trait Door {
    #[sensitive]
    fn open(&mut self, pin: u16) -> bool;
    fn lock(&mut self, #[cfg_attr(all(), sensitive)] pin: u16) -> bool;
}

fn main() {}
