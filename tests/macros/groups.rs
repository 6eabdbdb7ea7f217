//! Types from `macro_rules!`, which puts invisible groups around them.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use jsoncomm::fds::Fds;
use jsoncomm::message::{Packer, UnusedFds, decode, encode};
use jsoncomm::{Call, Kind, Message};
use jsoncomm_tests::Running;

macro_rules! inside {
    ($text:ty, $lent:ty, $path:ty, $fd:ty, $plain:ty, $call:ty, $unit:ty, $length:expr, $owned:ty, $list:ty) => {
        #[jsoncomm::service(name = "inside")]
        trait Inside {
            fn texts(
                &mut self,
                call: &mut $call,
                text: &$text,
                maybe: Option<&$text>,
                lent: Option<$lent>,
                path: &$path,
            ) -> String;
            fn files(
                &mut self,
                #[fd] one: $fd,
                #[fd] maybe: Option<$fd>,
                #[fd] all: Vec<$fd>,
            ) -> Vec<$plain>;
            fn numbers(&mut self, all: &[$plain], one: &$plain) -> Result<$unit, Box<$text>>;
            fn owned(
                &mut self,
                text: $owned,
                maybe: Option<$owned>,
                list: Vec<$plain>,
                names: $list,
                number: $plain,
            ) -> $owned;
        }

        #[derive(Debug, Message)]
        struct Held<'a> {
            #[fd]
            maybe: Option<$fd>,
            lent: &'a $text,
            maybe_lent: Option<&'a $text>,
            #[serde(borrow)]
            copied: Cow<'a, $text>,
            plain: [Box<$plain>; $length * 1],
        }
    };
}

inside!(
    str,
    &str,
    Path,
    File,
    u8,
    Call,
    (),
    3 - 2,
    String,
    Vec<String>
);

struct Daemon;

impl Inside for Daemon {
    fn texts(
        &mut self,
        call: &mut Call,
        text: &str,
        maybe: Option<&str>,
        lent: Option<&str>,
        path: &Path,
    ) -> String {
        format!(
            "{} {text} {maybe:?} {lent:?} {}",
            call.method(),
            path.display()
        )
    }

    fn files(&mut self, _one: File, maybe: Option<File>, all: Vec<File>) -> Vec<u8> {
        vec![1, maybe.is_some().into(), all.len().try_into().unwrap()]
    }

    fn numbers(&mut self, all: &[u8], one: &u8) -> Result<(), Box<str>> {
        if all.contains(one) {
            Ok(())
        } else {
            Err("not there".into())
        }
    }

    fn owned(
        &mut self,
        text: String,
        maybe: Option<String>,
        list: Vec<u8>,
        names: Vec<String>,
        number: u8,
    ) -> String {
        format!("{text} {maybe:?} {list:?} {names:?} {number}")
    }
}

#[test]
fn a_type_passed_through_a_macro_is_recognized_everywhere() {
    use std::os::fd::AsFd;
    let server = Running::start(Kind::Seqpacket, Daemon, |endpoint| {
        endpoint.serve::<dyn Inside>()
    });
    let client = InsideClient::new(server.connect());
    let texts = client.texts("a", Some("b"), None, Path::new("/c")).unwrap();
    assert_eq!(texts, r#"texts a Some("b") None /c"#);
    let null = File::open("/dev/null").unwrap();
    let files = client.files(&null, Some(null.as_fd()), &[null.as_fd(), null.as_fd()]);
    assert_eq!(files.unwrap(), [1, 1, 2]);
    assert!(client.numbers(&[1, 2], &2).is_ok() && client.numbers(&[], &2).is_err());
    let owned = client.owned("a", Some("b"), [1], [], 2).unwrap();
    assert_eq!(owned, r#"a Some("b") [1] [] 2"#);
    let mut fds = Fds::new();
    fds.push(null.into()).unwrap();
    let text = r#"{"maybe":0,"lent":"a","maybe_lent":"b","copied":"c","plain":[1]}"#;
    let held: Held<'_> = decode(text.as_bytes(), fds, UnusedFds::Refuse).unwrap();
    assert!(matches!(held.copied, Cow::Borrowed("c")));
    let mut written = Vec::new();
    encode(&held, &mut written, &Packer::new()).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), text);
}

#[allow(unused_parens, reason = "the compiler reports them in some places")]
#[jsoncomm::service(name = "parentheses")]
trait Parentheses {
    fn join(&mut self, text: (String), maybe: Option<(String)>, all: &[(String)]) -> (String);
}

impl Parentheses for () {
    fn join(&mut self, text: String, maybe: Option<String>, all: &[String]) -> String {
        [&[text], &maybe.into_iter().collect::<Vec<_>>()[..], all]
            .concat()
            .concat()
    }
}

#[test]
fn a_type_in_parentheses_is_lent_like_one_without() {
    let server = Running::start(Kind::Seqpacket, (), |endpoint| {
        endpoint.serve::<dyn Parentheses>()
    });
    let client = ParenthesesClient::new(server.connect());
    let all = [String::from("c")];
    assert_eq!(client.join("a", Some("b"), &all).unwrap(), "abc");
}
