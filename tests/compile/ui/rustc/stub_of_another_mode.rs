use jsoncomm::client::Started;

#[jsoncomm::service(name = "example.events")]
trait Events {
    fn changed(&mut self, key: &str) -> u32;
}

#[derive(jsoncomm::Message)]
struct Subscription {
    #[fd]
    to: EventsClient<Started>,
}

fn main() {}
