use jsoncomm::{Call, Deferred, Message};

struct Listing;

#[derive(Message)]
struct NoDisplay;

#[jsoncomm::service(name = "example.files")]
trait Files {
    fn list(&mut self) -> Result<Listing, String>;
    fn all(&mut self) -> Vec<(u8, Listing)>;
    fn some(&mut self) -> Option<Result<Listing, String>>;
    fn fails(&mut self) -> Result<u8, NoDisplay>;
    fn later(&mut self, call: &mut Call) -> Deferred<Listing>;
}

fn main() {}
