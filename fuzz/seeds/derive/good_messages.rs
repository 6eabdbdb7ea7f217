#[derive(Debug, Message)]
#[message(service = "example.jobs", reply = Tell, error = Failed)]
#[serde(rename_all = "camelCase")]
enum Ask<'a, T, const N: usize> where T: Debug {
    RunAll { #[serde(borrow)] program: Cow<'a, str>, #[fd] stdout: [OwnedFd; N], #[serde(skip)] of: PhantomData<T> },
    #[serde(rename = "await", alias = "wait")]
    Wait { job: u32, #[serde(default = "f::g", skip_serializing_if = "Option::is_none", with = "m")] patient: Option<bool> },
    Stop,
}
#[serde(tag = "t", content = "c", deny_unknown_fields)]
enum Tell { One(#[fd] File), Two(u8, #[serde(skip)] u16), Three {}, #[message(other)] Other(UnknownVariant) }
#[serde(transparent)]
struct Only(#[fd] OwnedFd);
struct Unit;
#[serde(default, bound(serialize = "T: A", deserialize = "T: B"))]
struct Many<T> { #[serde(rename(serialize = "a", deserialize = "b"))] a: T, r#type: u8 }
#[message(serde)]
#[serde(untagged)]
enum Loose { A(u8), B }
