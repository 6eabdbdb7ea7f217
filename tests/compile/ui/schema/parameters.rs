#[derive(jsoncomm::Message)]
#[message(schema)]
struct Page<T> {
    items: Vec<T>,
}

fn main() {}
