//! The service in both languages: a trait, an enum of requests, and the enum without envelope.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jsoncomm::{Call, Handler, Message, Reply};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// Methods that take and return text and files. Python serves `open`, `swap` and `echo` too.
#[jsoncomm::service(name = "example.desk")]
pub(crate) trait Desk {
    /// Opens a file.
    fn open(&mut self, path: &str) -> Result<Opened, DeskError>;
    /// Returns its arguments, with the files swapped.
    fn swap(&mut self, text: &str, #[fd] left: File, #[fd] right: File) -> Swapped;
    /// Returns the text.
    fn echo(&mut self, text: &str) -> Echoed;
    /// Takes a socket.
    fn attach(&mut self, #[fd] stream: UnixStream) -> Echoed;
    /// Takes a note, without a reply.
    #[oneway]
    fn note(&mut self, text: &str);
}

#[derive(Debug, Message)]
pub(crate) struct Opened {
    pub(crate) len: u64,
    #[fd]
    pub(crate) file: File,
}

#[derive(Debug, Message)]
pub(crate) struct Swapped {
    pub(crate) text: String,
    #[fd]
    pub(crate) left: File,
    #[fd]
    pub(crate) right: File,
}

#[derive(Debug, PartialEq, Message)]
pub(crate) struct Echoed {
    pub(crate) text: String,
}

#[derive(Debug, PartialEq, Message, thiserror::Error)]
pub(crate) enum DeskError {
    #[error("no file {path}")]
    NotFound { path: String },
    #[error("not allowed")]
    Denied,
}

/// The service as an enum.
#[derive(Debug, Message)]
#[message(service = "example.window", reply = Tell)]
pub(crate) enum Ask {
    Open {
        path: String,
    },
    Swap {
        text: String,
        #[fd]
        left: File,
        #[fd]
        right: File,
    },
    Echo {
        text: String,
    },
}

#[derive(Debug, Message)]
pub(crate) enum Tell {
    Opened {
        len: u64,
        #[fd]
        file: File,
    },
    Swapped {
        text: String,
        #[fd]
        left: File,
        #[fd]
        right: File,
    },
    Echoed {
        text: String,
    },
    NotFound {
        path: String,
    },
}

/// The state of the server in Rust: its received calls.
#[derive(Debug, Default)]
pub(crate) struct Clerk {
    pub(crate) files: Vec<Seen>,
    pub(crate) notes: Vec<String>,
}

impl Desk for Clerk {
    fn open(&mut self, path: &str) -> Result<Opened, DeskError> {
        if path == "secret" {
            return Err(DeskError::Denied);
        }
        let file = File::open(path).map_err(|_| DeskError::NotFound { path: path.into() })?;
        let len = file.metadata().unwrap().len();
        Ok(Opened { len, file })
    }

    fn swap(&mut self, text: &str, left: File, right: File) -> Swapped {
        self.files.extend([seen(&left), seen(&right)]);
        Swapped {
            text: text.into(),
            left: right,
            right: left,
        }
    }

    fn echo(&mut self, text: &str) -> Echoed {
        Echoed { text: text.into() }
    }

    fn attach(&mut self, stream: UnixStream) -> Echoed {
        drop(stream);
        Echoed {
            text: "attached".into(),
        }
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

impl Handler<Ask> for Clerk {
    fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<Tell>) {
        reply.send(match ask {
            Ask::Open { path } => match File::open(&path) {
                Ok(file) => Tell::Opened {
                    len: file.metadata().unwrap().len(),
                    file,
                },
                Err(_) => Tell::NotFound { path },
            },
            Ask::Swap { text, left, right } => {
                self.files.extend([seen(&left), seen(&right)]);
                Tell::Swapped {
                    text,
                    left: right,
                    right: left,
                }
            }
            Ask::Echo { text } => Tell::Echoed { text },
        });
    }
}

/// The file that a descriptor refers to, and its content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Seen {
    dev: u64,
    ino: u64,
    text: String,
}

/// Inspects a file as `peer.py` does.
pub(crate) fn seen(file: &File) -> Seen {
    let meta = file.metadata().unwrap();
    let mut text = vec![0; 4096];
    let length = file.read_at(&mut text, 0).unwrap();
    text.truncate(length);
    Seen {
        dev: meta.dev(),
        ino: meta.ino(),
        text: String::from_utf8(text).unwrap(),
    }
}

/// Parses the report of `peer.py` about files.
pub(crate) fn seen_by_python(files: &Value) -> Vec<Seen> {
    Vec::deserialize(files).expect("a list of files")
}

/// A directory with two files in it.
#[derive(Debug)]
pub(crate) struct Papers {
    pub(crate) directory: TempDir,
    pub(crate) left: PathBuf,
    pub(crate) right: PathBuf,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("the {name} paper")).unwrap();
            path
        };
        Self {
            left: write("left"),
            right: write("right"),
            directory,
        }
    }

    /// A path without a file.
    pub(crate) fn none(&self) -> PathBuf {
        self.directory.path().join("none")
    }

    pub(crate) fn open(path: &Path) -> File {
        File::open(path).unwrap()
    }

    /// Returns both files, as their receiver should see them.
    pub(crate) fn both(&self) -> [Seen; 2] {
        [&self.left, &self.right].map(|path| seen(&Self::open(path)))
    }
}
