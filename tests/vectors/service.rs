//! The service that the vectors call, and the enum of its bare messages.

use std::os::fd::OwnedFd;

use jsoncomm::{Call, Handler, Message, Reply, Stream};
use serde_json::{Value, json};

use crate::vectors::file::{content, ran, sheet};

#[jsoncomm::service(name = "vectors")]
pub(crate) trait Vectors {
    /// Takes nothing and returns nothing.
    fn nothing(&mut self) -> Result<(), Trouble>;
    /// Returns its argument.
    fn echo(&mut self, text: &str) -> Text;
    /// Returns its argument, if any.
    fn maybe(&mut self, text: Option<String>) -> Maybe;
    /// Returns the sum.
    fn add(&mut self, left: i64, right: i64) -> i64;
    /// Returns half of the number.
    fn half(&mut self, number: f64) -> f64;
    /// Returns any JSON unchanged.
    fn any(&mut self, value: Value) -> jsoncomm::message::Json<Value>;
    /// Takes a note, without a reply.
    #[oneway]
    fn note(&mut self, text: &str);
    /// Fails.
    fn fail(&mut self, path: &str) -> Result<(), Trouble>;
    /// Panics.
    fn crash(&mut self) -> u32;
    /// Returns a string of this many bytes.
    fn large(&mut self, bytes: usize) -> String;
    /// Returns the content of the file.
    fn read(&mut self, #[fd] file: OwnedFd) -> Text;
    /// Returns the type of the file.
    fn kind(&mut self, #[fd] file: OwnedFd) -> Text;
    /// Returns the content of a file that never changes.
    fn fixed(&mut self, #[fd(memfd(sealed), read)] file: OwnedFd) -> Text;
    /// Returns the content of each file, which are regular ones.
    fn sheets(&mut self, #[fd(regular, read)] files: Vec<OwnedFd>) -> Vec<String>;
    /// Returns both files, swapped.
    fn swap(&mut self, #[fd] left: OwnedFd, #[fd] right: OwnedFd) -> Swapped;
    /// Returns the content of the file, if there is one.
    fn some(&mut self, #[fd] file: Option<OwnedFd>) -> Maybe;
    /// Returns the content of each file.
    fn list(&mut self, #[fd] files: Vec<OwnedFd>) -> Vec<String>;
    /// Returns a file with this text.
    fn open(&mut self, text: &str) -> Opened;
    /// Fails, and returns the file with the error.
    fn keep(&mut self, #[fd] file: OwnedFd) -> Result<(), Trouble>;
    /// Is refused: a rule of the server lets nobody call it.
    fn locked(&mut self, text: &str, #[fd] file: Option<OwnedFd>) -> Text;
    /// Calls `note` through the connection.
    fn meet(&mut self, #[fd] peer: VectorsClient) -> Text;
    /// Sends the numbers below `to`.
    fn count(&mut self, call: &mut Call, to: u64) -> Stream<u64>;
    /// Sends a file for each text.
    fn pages(&mut self, call: &mut Call, texts: Vec<String>) -> Stream<Page>;
    /// Sends the numbers below `after`, and then fails.
    fn break_off(&mut self, call: &mut Call, after: u64) -> Stream<u64, Trouble>;
}

#[derive(Debug, Message)]
pub(crate) struct Text {
    pub(crate) text: String,
}

#[derive(Debug, Message)]
pub(crate) struct Maybe {
    pub(crate) text: Option<String>,
}

#[derive(Debug, Message)]
pub(crate) struct Opened {
    pub(crate) len: usize,
    #[fd]
    pub(crate) file: OwnedFd,
}

#[derive(Debug, Message)]
pub(crate) struct Swapped {
    #[fd]
    pub(crate) left: OwnedFd,
    #[fd]
    pub(crate) right: OwnedFd,
}

#[derive(Debug, Message)]
pub(crate) struct Page {
    #[fd]
    pub(crate) file: OwnedFd,
}

#[derive(Debug, Message, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("no file {path}")]
    NotFound { path: String },
    #[error("kept")]
    Kept {
        #[fd]
        file: OwnedFd,
    },
}

/// Requests without an envelope.
#[derive(Debug, Message)]
#[message(reply = Tell)]
pub(crate) enum Ask {
    Echo {
        text: String,
    },
    Swap {
        #[fd]
        left: OwnedFd,
        #[fd]
        right: OwnedFd,
    },
}

#[derive(Debug, Message)]
pub(crate) enum Tell {
    Echoed {
        text: String,
    },
    Swapped {
        #[fd]
        left: OwnedFd,
        #[fd]
        right: OwnedFd,
    },
}

/// Records the methods that run.
#[derive(Debug, Default)]
pub(crate) struct Scribe {
    pub(crate) ran: Vec<Value>,
}

impl Scribe {
    fn note_down(&mut self, method: &str, arguments: Value) {
        self.ran.push(ran(method, arguments));
    }
}

fn not_found(path: &str) -> Trouble {
    Trouble::NotFound { path: path.into() }
}

impl Vectors for Scribe {
    fn nothing(&mut self) -> Result<(), Trouble> {
        self.note_down("nothing", json!({}));
        Ok(())
    }

    fn echo(&mut self, text: &str) -> Text {
        self.note_down("echo", json!({"text": text}));
        Text { text: text.into() }
    }

    fn maybe(&mut self, text: Option<String>) -> Maybe {
        self.note_down("maybe", json!({"text": text}));
        Maybe { text }
    }

    fn add(&mut self, left: i64, right: i64) -> i64 {
        self.note_down("add", json!({"left": left, "right": right}));
        left + right
    }

    fn half(&mut self, number: f64) -> f64 {
        self.note_down("half", json!({"number": number}));
        number / 2.0
    }

    fn any(&mut self, value: Value) -> jsoncomm::message::Json<Value> {
        self.note_down("any", json!({"value": value}));
        jsoncomm::message::Json(value)
    }

    fn note(&mut self, text: &str) {
        self.note_down("note", json!({"text": text}));
    }

    fn fail(&mut self, path: &str) -> Result<(), Trouble> {
        self.note_down("fail", json!({"path": path}));
        Err(not_found(path))
    }

    fn crash(&mut self) -> u32 {
        self.note_down("crash", json!({}));
        panic!("on purpose")
    }

    fn large(&mut self, bytes: usize) -> String {
        self.note_down("large", json!({"bytes": bytes}));
        "x".repeat(bytes)
    }

    fn read(&mut self, file: OwnedFd) -> Text {
        let text = content(file);
        self.note_down("read", json!({"file": text}));
        Text { text }
    }

    fn kind(&mut self, file: OwnedFd) -> Text {
        let text = content(file);
        self.note_down("kind", json!({"file": text}));
        Text { text }
    }

    fn fixed(&mut self, file: OwnedFd) -> Text {
        let text = content(file);
        self.note_down("fixed", json!({"file": text}));
        Text { text }
    }

    fn sheets(&mut self, files: Vec<OwnedFd>) -> Vec<String> {
        let texts: Vec<_> = files.into_iter().map(content).collect();
        self.note_down("sheets", json!({"files": texts}));
        texts
    }

    fn swap(&mut self, left: OwnedFd, right: OwnedFd) -> Swapped {
        self.note_down(
            "swap",
            json!({"left": content(&left), "right": content(&right)}),
        );
        Swapped {
            left: right,
            right: left,
        }
    }

    fn some(&mut self, file: Option<OwnedFd>) -> Maybe {
        let text = file.map(content);
        self.note_down("some", json!({"file": text}));
        Maybe { text }
    }

    fn list(&mut self, files: Vec<OwnedFd>) -> Vec<String> {
        let texts: Vec<_> = files.into_iter().map(content).collect();
        self.note_down("list", json!({"files": texts}));
        texts
    }

    fn open(&mut self, text: &str) -> Opened {
        self.note_down("open", json!({"text": text}));
        let (len, file) = (text.len(), sheet(text));
        Opened { len, file }
    }

    fn keep(&mut self, file: OwnedFd) -> Result<(), Trouble> {
        self.note_down("keep", json!({"file": content(&file)}));
        Err(Trouble::Kept { file })
    }

    fn locked(&mut self, text: &str, _: Option<OwnedFd>) -> Text {
        self.note_down("locked", json!({"text": text}));
        Text { text: text.into() }
    }

    fn meet(&mut self, peer: VectorsClient) -> Text {
        self.note_down("meet", json!({}));
        let text = match peer.note("met") {
            Ok(()) => "met",
            Err(_) => "gone",
        };
        Text { text: text.into() }
    }

    fn count(&mut self, call: &mut Call, to: u64) -> Stream<u64> {
        self.note_down("count", json!({"to": to}));
        call.stream(|sink| sink.feed((0..to).map(Ok)))
    }

    fn pages(&mut self, call: &mut Call, texts: Vec<String>) -> Stream<Page> {
        self.note_down("pages", json!({"texts": texts}));
        let page = |text: String| Page { file: sheet(&text) };
        call.stream(|sink| sink.feed(texts.into_iter().map(move |text| Ok(page(text)))))
    }

    fn break_off(&mut self, call: &mut Call, after: u64) -> Stream<u64, Trouble> {
        self.note_down("break_off", json!({"after": after}));
        let end = std::iter::once_with(move || Err(not_found(&after.to_string())));
        call.stream(|sink| sink.feed((0..after).map(Ok).chain(end)))
    }
}

impl Handler<Ask> for Scribe {
    fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<Tell>) {
        reply.send(match ask {
            Ask::Echo { text } => {
                self.note_down("Echo", json!({"text": text}));
                Tell::Echoed { text }
            }
            Ask::Swap { left, right } => {
                let arguments = json!({"left": content(&left), "right": content(&right)});
                self.note_down("Swap", arguments);
                Tell::Swapped {
                    left: right,
                    right: left,
                }
            }
        });
    }
}
