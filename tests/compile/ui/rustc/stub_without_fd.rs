#[jsoncomm::service(name = "example.events")]
trait Events {
    fn changed(&mut self, key: &str) -> u32;
}

#[jsoncomm::service(name = "example.store")]
trait Store {
    fn subscribe(&mut self, events: EventsClient) -> u32;
}

fn main() {}
