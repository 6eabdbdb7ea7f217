//! Messages as arguments, in each way to take an argument.

use super::*;

#[derive(Debug, Clone, PartialEq, Message)]
struct Options {
    deep: bool,
    pattern: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Entry {
    File { name: String },
    Folder(Vec<Entry>),
}

#[derive(Debug, PartialEq, Message)]
struct Found {
    options: Options,
    entries: Vec<Entry>,
}

#[jsoncomm::service(name = "example.nested")]
trait Nested {
    fn by_value(
        &mut self,
        options: Options,
        entries: Vec<Entry>,
        #[serde(default)] maybe: Option<Options>,
    ) -> Found;
    fn lent(&mut self, call: &mut Call, options: &Options, entries: &[Entry]) -> Found;
    fn beside(&mut self, text: &str, #[sensitive] options: &Options, #[fd] file: OwnedFd) -> bool;
    #[oneway]
    fn log(&mut self, entries: &[Entry]);
}

#[derive(Default)]
struct Finder {
    logged: Vec<Entry>,
}

impl Nested for Finder {
    fn by_value(
        &mut self,
        options: Options,
        mut entries: Vec<Entry>,
        maybe: Option<Options>,
    ) -> Found {
        entries.append(&mut self.logged);
        let options = maybe.unwrap_or(options);
        Found { options, entries }
    }

    fn lent(&mut self, _: &mut Call, options: &Options, entries: &[Entry]) -> Found {
        Found {
            options: options.clone(),
            entries: entries.to_vec(),
        }
    }

    fn beside(&mut self, text: &str, options: &Options, _file: OwnedFd) -> bool {
        options.pattern.as_deref() == Some(text)
    }

    fn log(&mut self, entries: &[Entry]) {
        self.logged.extend_from_slice(entries);
    }
}

#[test]
fn an_argument_may_be_a_message_or_contain_messages() {
    let server = Running::start(Kind::Seqpacket, Finder::default(), |endpoint| {
        endpoint.serve::<dyn Nested>()
    });
    let client = NestedClient::new(server.connect());
    let options = Options {
        deep: true,
        pattern: Some("*.rs".into()),
    };
    let other = Options {
        deep: false,
        pattern: None,
    };
    let file = Entry::File { name: "a".into() };
    let entries = vec![
        Entry::Folder(vec![file.clone(), Entry::Folder(vec![])]),
        file,
    ];
    let found = client.lent(&options, &entries).unwrap();
    assert_eq!((&found.options, &found.entries), (&options, &entries));
    client.log(&entries).unwrap();
    let found = client.by_value(options.clone(), vec![], Some(other.clone()));
    let found = found.unwrap();
    assert_eq!((found.options, found.entries), (other, entries));
    let null = File::open("/dev/null").unwrap();
    assert!(client.beside("*.rs", &options, &null).unwrap());
}

#[test]
fn an_error_inside_a_message_names_its_argument() {
    #[derive(Message)]
    struct Wrong {
        options: Options,
        entries: [u8; 1],
    }
    let server = Running::start(Kind::Seqpacket, Finder::default(), |endpoint| {
        endpoint.serve::<dyn Nested>()
    });
    let options = Options {
        deep: true,
        pattern: None,
    };
    let wrong = Wrong {
        options,
        entries: [1],
    };
    let called: Result<Found, CallError> = server.connect().call("example.nested.lent", &wrong);
    let Err(CallError::Fault(fault)) = called else {
        unreachable!("{called:?}");
    };
    assert_eq!(fault.code, Fault::INVALID_PARAMS);
    assert!(fault.message.starts_with("entries[0]: "), "{fault}");
}
