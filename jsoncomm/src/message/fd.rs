//! Descriptors: an index in the text, an owned descriptor of the right kind in the value.

use super::{Pack, Packer, Unpack, Unpacker};
use crate::error::FdProblem;
use crate::shape::Shape;
use crate::sys::{INET, PipeEnd, SocketType, UNIX, is_pipe, is_socket};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

impl Pack for BorrowedFd<'_> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        pack(*self, fds, out)
    }

    fn shape() -> Shape {
        Shape::Descriptor("")
    }
}

/// Implements both traits for an owner of a descriptor of any kind, or of one kind.
macro_rules! owners {
    ($($owner:ty: $expected:literal $(if $fits:expr)?;)*) => {$(
        impl Pack for $owner {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                pack(self.as_fd(), fds, out)
            }

            fn shape() -> Shape {
                Shape::Descriptor($expected)
            }
        }

        impl<'de> Unpack<'de> for $owner {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                let index = index(from)?;
                $(fds.check(index, |fd| {
                    let fits: fn(BorrowedFd<'_>) -> bool = $fits;
                    let problem = FdProblem::Kind { index, expected: $expected };
                    (!fits(fd)).then_some(problem)
                })?;)?
                Ok(fds.take(index)?.into())
            }
        }
    )*};
}

owners! {
    OwnedFd: "";
    File: "a file";
    UnixStream: "a connected unix stream socket" if |fd| is_socket(fd, UNIX, SocketType::STREAM, false);
    UnixListener: "a listening unix socket" if |fd| is_socket(fd, UNIX, SocketType::STREAM, true);
    UnixDatagram: "a unix datagram socket" if |fd| is_socket(fd, UNIX, SocketType::DGRAM, false);
    TcpStream: "a connected TCP socket" if |fd| is_socket(fd, INET, SocketType::STREAM, false);
    TcpListener: "a listening TCP socket" if |fd| is_socket(fd, INET, SocketType::STREAM, true);
    UdpSocket: "a UDP socket" if |fd| is_socket(fd, INET, SocketType::DGRAM, false);
    ChildStdin: "a pipe to write" if |fd| is_pipe(fd, PipeEnd::Writer);
    ChildStdout: "a pipe to read" if |fd| is_pipe(fd, PipeEnd::Reader);
    ChildStderr: "a pipe to read" if |fd| is_pipe(fd, PipeEnd::Reader);
}

#[cfg(std_pipes)]
#[expect(clippy::incompatible_msrv, reason = "only where the compiler has them")]
mod pipes {
    use super::*;
    use std::io::{PipeReader, PipeWriter};

    owners! {
        PipeReader: "a pipe to read" if |fd| is_pipe(fd, PipeEnd::Reader);
        PipeWriter: "a pipe to write" if |fd| is_pipe(fd, PipeEnd::Writer);
    }
}

/// Writes a descriptor's index.
pub(crate) fn pack<'a, S: Serializer>(
    fd: BorrowedFd<'a>,
    fds: &Packer<'a>,
    out: S,
) -> Result<S::Ok, S::Error> {
    // Never saturates: the list is in memory.
    out.serialize_u64(u64::try_from(fds.push(fd)).unwrap_or(u64::MAX))
}

/// Reads a descriptor's index, an unsigned integer.
pub(crate) fn index<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Index;

    impl Visitor<'_> for Index {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a descriptor index")
        }

        fn visit_u64<E: Error>(self, index: u64) -> Result<u64, E> {
            Ok(index)
        }

        fn visit_i64<E: Error>(self, index: i64) -> Result<u64, E> {
            u64::try_from(index)
                .map_err(|_| E::invalid_type(Unexpected::Signed(index), &"a descriptor index"))
        }
    }

    from.deserialize_u64(Index)
}

#[cfg(all(test, std_pipes))]
mod tests {
    use crate::fds::Fds;
    use crate::message::{Packer, UnusedFds, decode, encode};
    use std::io::{PipeReader, PipeWriter, Read, Write};
    use std::os::fd::OwnedFd;

    #[test]
    fn a_pipe_end_is_received_as_the_same_end() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (mut text, ends) = (Vec::new(), (reader, Some(writer)));
        let lent = Packer::new();
        encode(&ends, &mut text, &lent).unwrap();
        let fds = lent
            .into_fds()
            .into_iter()
            .map(|fd| fd.try_clone_to_owned());
        let fds = Fds::from(fds.collect::<Result<Vec<_>, _>>().unwrap());
        drop(ends);
        let back = decode::<(PipeReader, Option<PipeWriter>)>(&text, fds, UnusedFds::Refuse);
        let (mut reader, writer) = back.unwrap();
        writer.unwrap().write_all(b"through").unwrap();
        let mut came = String::new();
        reader.read_to_string(&mut came).unwrap();
        assert_eq!(came, "through");
    }

    #[test]
    fn a_pipe_end_is_not_accepted_as_the_other_end() {
        let ends = || {
            let (reader, writer) = std::io::pipe().unwrap();
            [OwnedFd::from(reader), writer.into()].map(|end| Fds::from(vec![end]))
        };
        let [reader, writer] = ends();
        assert!(decode::<PipeWriter>(b"0", reader, UnusedFds::Refuse).is_err());
        let error = decode::<PipeReader>(b"0", writer, UnusedFds::Refuse).unwrap_err();
        assert_eq!(error.to_string(), "descriptor 0 is not a pipe to read");
    }
}
