#[jsoncomm::service(name = "a.b", version = "1.x")]
trait NoNumber {
    #[since = ""]
    fn a(&mut self) -> u8;
}

#[jsoncomm::service(name = "a.b", version = "1.2.3.4")]
trait TooMany {
    fn a(&mut self) -> u8;
}

#[jsoncomm::service(name = "a.b", version = "1.2")]
trait Later {
    #[since = "1.2.0"]
    fn a(&mut self) -> u8;
    #[since = "1.10"]
    fn b(&mut self) -> u8;
    #[since("1.1")]
    fn c(&mut self) -> u8;
}

#[jsoncomm::service(name = "a.b")]
trait NoVersion {
    #[since = "1.0"]
    fn a(&mut self) -> u8;
}

fn main() {}
