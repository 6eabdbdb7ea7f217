use jsoncomm::Message;

#[derive(Message)]
struct Borrowed<'__de, __D> {
    text: &'__de str,
    of: Option<__D>,
    #[serde(default = "__from", skip_serializing_if = "__fds")]
    path: u8,
}

fn __value() -> u8 {
    7
}

fn __fds(_: &u8) -> bool {
    false
}

fn main() {}
