trait Base {
    type Item;
}

#[jsoncomm::service(name = "example.files")]
trait Files: Base<Item = u8> {
    fn put(&self, item: Self::Item) -> u8;
    fn get(&self) -> Result<Vec<Self::Item>, String>;
}

fn main() {}
