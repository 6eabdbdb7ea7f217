struct Listing;

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Listing;
}

fn main() {}
