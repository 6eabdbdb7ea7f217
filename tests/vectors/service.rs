//! The service that the vectors call, and the enum of its bare messages.

use std::os::fd::OwnedFd;

use jsoncomm::{Call, Handler, Message, Reply, Stream};
use serde_json::{Value, json};

use crate::vectors::file::{content, ran, sheet};

#[jsoncomm::service(name = "vectors")]
pub(crate) trait Vectors {
    /// Takes nothing and gives nothing.
    fn nothing(&mut self) -> Result<(), Trouble>;
    /// Gives back what it takes.
    fn echo(&mut self, text: &str) -> Text;
    /// The same, if there is something.
    fn maybe(&mut self, text: Option<String>) -> Maybe;
    /// The sum.
    fn add(&mut self, left: i64, right: i64) -> i64;
    /// Half of it.
    fn half(&mut self, number: f64) -> f64;
    /// Gives any JSON back.
    fn any(&mut self, value: Value) -> jsoncomm::message::Json<Value>;
    /// Takes a note; no answer is sent.
    #[oneway]
    fn note(&mut self, text: &str);
    /// Fails.
    fn fail(&mut self, path: &str) -> Result<(), Trouble>;
    /// Fails as no handler should.
    fn crash(&mut self) -> u32;
    /// Answers with a string of so many bytes.
    fn large(&mut self, bytes: usize) -> String;
    /// Answers with what is in the file.
    fn read(&mut self, #[fd] file: OwnedFd) -> Text;
    /// Answers with what kind of file it is.
    fn kind(&mut self, #[fd] file: OwnedFd) -> Text;
    /// Gives both back in each other's place.
    fn swap(&mut self, #[fd] left: OwnedFd, #[fd] right: OwnedFd) -> Swapped;
    /// Answers with what is in the file, if there is one.
    fn some(&mut self, #[fd] file: Option<OwnedFd>) -> Maybe;
    /// Answers with what is in each.
    fn list(&mut self, #[fd] files: Vec<OwnedFd>) -> Vec<String>;
    /// Answers with a file that has this text.
    fn open(&mut self, text: &str) -> Opened;
    /// Fails, and gives the file back with the error.
    fn keep(&mut self, #[fd] file: OwnedFd) -> Result<(), Trouble>;
    /// Counts from 0, and not to the end of it.
    fn count(&mut self, call: &mut Call, to: u64) -> Stream<u64>;
    /// Gives a file for each text.
    fn pages(&mut self, call: &mut Call, texts: Vec<String>) -> Stream<Page>;
    /// Counts from 0, and fails then.
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

/// What is asked without an envelope.
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

/// Writes down what runs.
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
