//! The format of a file of vectors, and the descriptors that it names.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use jsoncomm::Kind;
use jsoncomm::socket::Socket;
use jsoncomm_tests::KINDS;
use rustix::fs::{FileType, MemfdFlags, SealFlags};
use serde::Deserialize;
use serde_json::{Value, json};

/// One test vector.
pub(crate) trait Vector: for<'de> Deserialize<'de> {
    fn name(&self) -> &str;
    /// Returns the kinds of socket that it applies to; `None` for both.
    fn kinds(&self) -> Option<&[String]>;
    /// Runs it against our side. `mode` is that of its file.
    fn check(&self, kind: Kind, mode: Option<&str>);
}

/// All vectors of a file.
pub(crate) struct Vectors<V> {
    mode: Option<String>,
    vectors: Vec<V>,
}

/// Reads a file.
pub(crate) fn load<V: Vector>(path: &Path) -> Vectors<V> {
    let text = std::fs::read_to_string(path).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let filled = |vector: &Value| {
        let fill = vector.get("fill").and_then(Value::as_u64).unwrap_or(0);
        let fill = "x".repeat(usize::try_from(fill).unwrap());
        let text = vector.to_string().replace("FILL", &fill);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {vector}"))
    };
    let vectors = file.get("vectors").and_then(Value::as_array).unwrap();
    Vectors {
        mode: file.get("mode").and_then(Value::as_str).map(str::to_owned),
        vectors: vectors.iter().map(filled).collect(),
    }
}

impl<V: Vector> Vectors<V> {
    /// Runs each vector on each kind of socket that it applies to.
    pub(crate) fn check_all(&self) {
        for kind in KINDS {
            for vector in &self.vectors {
                let name = match kind {
                    Kind::Datagram => "dgram",
                    Kind::Seqpacket => "seqpacket",
                };
                let is_meant = |kinds: &[String]| kinds.iter().any(|kind| kind == name);
                if vector.kinds().is_none_or(is_meant) {
                    eprintln!("{} on {name}", vector.name());
                    vector.check(kind, self.mode.as_deref());
                }
            }
        }
    }
}

/// A datagram to send.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Datagram {
    text: Option<String>,
    hex: Option<String>,
    #[serde(default)]
    descriptors: Vec<Made>,
}

impl Datagram {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (&self.text, &self.hex) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(hex)) => hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect(),
            _ => panic!("text or hex"),
        }
    }

    pub(crate) fn descriptors(&self, id: &str) -> Vec<OwnedFd> {
        self.descriptors.iter().map(|made| made.make(id)).collect()
    }
}

/// A descriptor to make.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Made {
    File {
        text: String,
    },
    Memfd {
        text: String,
        #[serde(default)]
        seals: Vec<String>,
        /// The shared file offset.
        #[serde(default)]
        offset: u64,
        /// Its size, if that differs from the length of the text.
        size: Option<u64>,
    },
    Pipe {},
    Socket {},
    Connection {},
    Null {},
}

impl Made {
    fn make(&self, id: &str) -> OwnedFd {
        match self {
            Self::File { text } => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                file.into()
            }
            Self::Memfd {
                text,
                seals,
                offset,
                size,
            } => {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
                let mut file = File::from(rustix::fs::memfd_create("vector", flags).unwrap());
                file.write_all(text.replace("ID", id).as_bytes()).unwrap();
                if let Some(size) = size {
                    file.set_len(*size).unwrap();
                }
                file.seek(SeekFrom::Start(*offset)).unwrap();
                let seals = seals.iter().map(|name| seal(name)).collect();
                rustix::fs::fcntl_add_seals(&file, seals).unwrap();
                file.into()
            }
            Self::Pipe {} => rustix::pipe::pipe().unwrap().0,
            Self::Socket {} => UnixStream::pair().unwrap().0.into(),
            Self::Connection {} => {
                let near = Socket::pair(Kind::Seqpacket).unwrap().0;
                near.as_fd().try_clone_to_owned().unwrap()
            }
            Self::Null {} => File::open("/dev/null").unwrap().into(),
        }
    }
}

fn seal(name: &str) -> SealFlags {
    match name {
        "shrink" => SealFlags::SHRINK,
        "grow" => SealFlags::GROW,
        "write" => SealFlags::WRITE,
        "seal" => SealFlags::SEAL,
        other => panic!("no seal {other}"),
    }
}

/// Returns the vectors' description of a descriptor: the content of a file, otherwise its type.
pub(crate) fn content(fd: impl AsFd) -> String {
    let stat = rustix::fs::fstat(&fd).unwrap();
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = File::from(fd.as_fd().try_clone_to_owned().unwrap());
            let mut text = vec![0; usize::try_from(stat.st_size).unwrap()];
            file.read_exact_at(&mut text, 0).unwrap();
            String::from_utf8(text).unwrap()
        }
        FileType::Fifo => "pipe".into(),
        FileType::Socket => "socket".into(),
        FileType::CharacterDevice => "null".into(),
        other => panic!("{other:?}"),
    }
}

/// Returns a file with this content.
pub(crate) fn sheet(text: &str) -> OwnedFd {
    let text = text.into();
    Made::File { text }.make("")
}

/// Returns the record of a method that ran, in the vectors' terms.
pub(crate) fn ran(method: &str, arguments: Value) -> Value {
    json!({"method": method, "arguments": arguments})
}
