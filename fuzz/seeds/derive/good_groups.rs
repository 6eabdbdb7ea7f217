#[serde(rename = __group("x"))]
struct Made { a: __group(Option<u8>), #[fd] b: Option<__group(OwnedFd)>, #[serde(default = __group("f"))] c: __group(&'static str) }
#[service(name = __group("a.b"))]
trait Maker { fn make(&mut self, of: __group(&str), #[fd] f: __group(Option<OwnedFd>)) -> __group(Result<u8, E>); }
