//! Messages: typed values that become JSON text and descriptors, and back.
//!
//! In the text a descriptor is its index in the list that travels with it: `{"len":12,"file":0}`. [`Pack`] writes a value and
//! [`Unpack`] reads one; `#[derive(Message)]` implements both. Each descriptor is named exactly once. Errors name the member that
//! is wrong. [`encode`] and [`decode`] convert without any I/O.
//!
//! # JSON
//!
//! A text has one meaning or is refused, by servers and by clients, with and without an envelope, for every type:
//!
//! - The text is one value of [RFC 8259] in UTF-8, which white space may surround. Refused are an empty text, a byte order mark,
//!   another encoding, anything after the value (a NUL byte, a second value), a control character in a string, a comment and `NaN`.
//! - An object has each key once, however it is spelt.
//! - A string is Unicode: a lone surrogate is refused. `\u0000` is an ordinary character.
//! - An integer is written as an integer and fits its type. `1.0`, `1e3` and, in up to 64 bits, `-0` are refused, also where a
//!   visitor written by hand asks for an integer and would take a float.
//! - An integer of more than 64 bits that is read as any value (`serde_json::Value`, `untagged`, `flatten`) is refused with its
//!   path, because serde has only a float for it, without the last digits. If its digits are exactly those that the float is
//!   written with, as JavaScript writes `100000000000000000000`, it is that float. With serde_json's feature
//!   `arbitrary_precision` all digits are kept.
//! - A floating-point number is rounded to the nearest value of its type, whether it is written as an integer or with more digits
//!   than fit. If it is too large for the type, it is refused. NaN and infinity are not sent.
//! - At most [`Limits::depth`](crate::Limits::depth) arrays and objects are nested, in what is sent and in what is received, with
//!   the envelope of a call included. [`encode`] and [`decode`] alone allow 127.
//!
//! Members that a type does not know are skipped, and so are those of an envelope that nothing uses. The rules hold for them, too. One
//! rule depends on the type: what it reads with `deserialize_struct` has to refuse its own members if they are repeated. All derived
//! types do. A visitor written by hand may let the last one win.
//!
//! `deserialize_with` may turn an error into a value, such as a default, where it can with serde_json: where one token (a string, a
//! number, `true`, `false` or `null`) has another type. An error in an enum, a 128-bit integer, an array or an object refuses the
//! message.
//!
//! | the text | a server's reply | a client's call ends with |
//! |---|---|---|
//! | is not JSON | [`Fault::PARSE_ERROR`](crate::Fault::PARSE_ERROR) | [`DecodeError::Syntax`] |
//! | is nested too deep | [`Fault::PARSE_ERROR`](crate::Fault::PARSE_ERROR) | [`DecodeError::TooDeep`] |
//! | breaks another rule in its envelope | [`Fault::INVALID_REQUEST`](crate::Fault::INVALID_REQUEST) | [`DecodeError::Shape`] |
//! | breaks another rule in an argument or result | [`Fault::INVALID_PARAMS`](crate::Fault::INVALID_PARAMS), which names the argument | [`DecodeError::Shape`] |
//!
//! What cannot be sent is an [`EncodeError`], and nothing is sent. One rule is only the reader's: a type that writes a key twice, as a
//! flattened map can, is sent, and refused by its receiver.
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259

mod container;
mod fd;
mod few;
mod members;
mod numbers;
mod packer;
mod part;
mod plain;
mod pointer;
pub(crate) mod probe;
// They are read by derived code.
#[cfg(feature = "derive")]
mod range;
mod request;
pub(crate) mod select;
mod text;
mod unknown;
mod unpacker;
mod variants;
mod verbatim;
mod wrap;

use crate::fds::Fds;
use crate::json::{self, Cursor, Reader, Writer};
use crate::limits::Depth;
use crate::shape::Shape;
use select::WithoutFds;
use serde::{Deserializer, Serializer};

pub use crate::error::{DecodeError, EncodeError, FdProblem};
pub use members::{
    Absence, MemberRules, Members, NoArguments, absent, borrow_cow_bytes, borrow_cow_str, members,
    newtype, unit_struct, whole,
};
pub use numbers::Numbers;
pub use packer::{ContentOf, OfKind, PackContent, Packed, Packer, Sensitive, sensitive};
pub use part::{PackPart, UnpackPart};
pub use request::Request;
pub use text::Text;
pub use unknown::UnknownVariant;
pub use unpacker::Unpacker;
pub use variants::{Content, Variants, adjacent, external};
pub use verbatim::{RawError, RawMessage};
pub use wrap::{Json, WithFds};

pub(crate) use fd::{index as read_fd, pack as write_fd};
pub(crate) use members::{Arguments, Table};
pub(crate) use packer::Row;
pub(crate) use unknown::Copied;

/// A type that can be written as JSON text with descriptors beside it.
///
/// `#[derive(Message)]` implements it. An implementation by hand is like [`Serialize`](serde::Serialize) with a list that is
/// passed down: to write a descriptor, [push](Packer::push) it and write its index.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{Pack, Packer, encode};
/// use serde::Serializer;
/// use std::fs::File;
/// use std::os::fd::AsFd;
///
/// struct Pair(File, File);
///
/// impl Pack for Pair {
///     fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
///         let indices = (fds.push(self.0.as_fd()), fds.push(self.1.as_fd()));
///         serde::Serialize::serialize(&indices, out)
///     }
/// }
///
/// let pair = Pair(File::open("/dev/null")?, File::open("/dev/zero")?);
/// let (mut text, fds) = (Vec::new(), Packer::new());
/// encode(&pair, &mut text, &fds)?;
/// assert_eq!(text, b"[0,1]");
/// assert_eq!(fds.into_fds().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written as a message",
    label = "not a message",
    note = "derive `Message` for it; for a foreign serde type wrap it in `Json`",
    note = "a field without descriptors needs no `#[fd]`"
)]
pub trait Pack {
    /// The names of a derived enum's variants, in the order of their codes.
    #[doc(hidden)]
    const CODES: &'static [&'static str] = &[];

    /// Writes the value to `serializer` and appends its descriptors to `fds`, which borrows them.
    ///
    /// # Errors
    ///
    /// Those of the serializer, or of a value that cannot be written.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::message::{Pack, Packer};
    ///
    /// let (file, fds) = (Some(std::fs::File::open("/dev/null")?), Packer::new());
    /// assert_eq!(file.pack(&fds, serde_json::value::Serializer)?, 0);
    /// assert_eq!(fds.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn pack<'a, S: Serializer>(
        &'a self,
        fds: &Packer<'a>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>;

    /// Returns the code of a service error: 1, or the number of a derived enum's variant, counted from 1.
    #[doc(hidden)]
    fn code(&self) -> i64 {
        1
    }

    /// Returns the shape of the JSON, for [descriptions](crate::describe).
    #[doc(hidden)]
    fn shape() -> Shape {
        Shape::Anything(std::any::type_name::<Self>())
    }

    /// Appends the value to `text` as a whole message. After an error, a part of it may be there.
    #[doc(hidden)]
    fn write<'a>(&'a self, text: &mut Vec<u8>, fds: &Packer<'a>) -> Result<(), EncodeError> {
        let mut writer = Writer::new(text, fds.depth());
        self.pack(fds, &mut writer)
            .map_err(|error| fds.explain(error))
    }
}

/// A type that can be read from JSON text that lives for `'de`, and from the descriptors beside it.
///
/// `#[derive(Message)]` implements it. An implementation by hand is like [`Deserialize`](serde::Deserialize) with a list that
/// is passed down: to read a descriptor, read its index and [take](Unpacker::take) it, once.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{UnusedFds, Unpack, Unpacker, decode};
/// use jsoncomm::fds::Fds;
/// use serde::{Deserialize, Deserializer};
/// use std::fs::File;
/// use std::os::fd::OwnedFd;
///
/// struct Pair(OwnedFd, OwnedFd);
///
/// impl<'de> Unpack<'de> for Pair {
///     fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
///         let (first, second) = Deserialize::deserialize(from)?;
///         Ok(Self(fds.take(first)?, fds.take(second)?))
///     }
/// }
///
/// let files = ["/dev/null", "/dev/zero"].map(|path| File::open(path).map(OwnedFd::from));
/// let fds = Fds::from(files.into_iter().collect::<Result<Vec<_>, _>>()?);
/// let pair: Pair = decode(b"[1,0]", fds, UnusedFds::Refuse)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read as a message",
    label = "not a message",
    note = "derive `Message` for it; for a foreign serde type wrap it in `Json`",
    note = "a field without descriptors needs no `#[fd]`"
)]
pub trait Unpack<'de>: Sized {
    /// Reads the value from `deserializer` and takes its descriptors out of `fds`.
    ///
    /// # Errors
    ///
    /// If the JSON has another shape, or a descriptor is missing, named twice or of another kind.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::fds::Fds;
    /// use jsoncomm::message::{Unpack, Unpacker};
    /// use serde::de::IntoDeserializer;
    /// use serde::de::value::Error;
    /// use std::fs::File;
    ///
    /// let mut fds = Fds::new();
    /// fds.push(File::open("/dev/null")?.into())?;
    /// let fds = Unpacker::new(fds);
    /// assert!(File::unpack(&fds, IntoDeserializer::<Error>::into_deserializer(0_u32)).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, deserializer: D) -> Result<Self, D::Error>;

    /// Returns the value of an absent member, or `None` if it is required.
    #[doc(hidden)]
    fn absent() -> Option<Self> {
        None
    }

    /// Reads the value as a whole message from the front of `text`, and returns its length in bytes, too.
    #[doc(hidden)]
    fn front(text: &'de str, fds: &Unpacker) -> Result<(Self, usize), DecodeError> {
        front(text, fds, |reader| Self::unpack(fds, reader))
    }

    /// Reads the value from an error object with this code and message. Returns `None` if there is no data.
    #[doc(hidden)]
    fn of_error(
        _: (i64, &str),
        data: Option<&'de str>,
        fds: &Unpacker,
    ) -> Option<Result<Self, DecodeError>> {
        data.map(|data| {
            let (error, length) = Self::front(data, fds)?;
            check_end(data, length).map(|()| error)
        })
    }
}

/// A type that can be sent and received, with its descriptors.
///
/// Every type that is [`Pack`], and [`Unpack`] without borrowing from the text, is a `Message`. `#[derive(Message)]`
/// implements both for structs and enums, including generic types. A type that borrows is only `Pack`, or also `Unpack<'de>`.
///
/// # Fields
///
/// | field | written and read by |
/// |---|---|
/// | with `#[fd]` | `Pack` and `Unpack` |
/// | other, whose type has serde's traits | `Serialize` and `Deserialize` |
/// | other, whose type is a message without descriptors | `Pack` and `Unpack` |
///
/// `#[fd]` marks a field that is a descriptor or contains some: [`OwnedFd`](std::os::fd::OwnedFd), [`File`](std::fs::File), a
/// socket or an end of a pipe of std, including those of a child process; a [`Connection`](crate::Connection) or a stub; an
/// `Option`, `Vec`, array, tuple, map, `Box` or `Arc` of them; or a message with descriptors. With a
/// [`BorrowedFd`](std::os::fd::BorrowedFd) or a reference there, the type can only be sent.
///
/// The types of std for sockets and pipes take that kind only. `OwnedFd` and `File` take any descriptor: a `File` may be a pipe, a
/// socket, a directory or what cannot be read. `#[fd(regular, read)]` asks for a kind and how it is open, with the words of
/// [`FdKind`](crate::fds::FdKind), of every descriptor in the field. What does not fit is neither sent ([`EncodeError::Descriptor`])
/// nor received ([`FdProblem::Unfit`]).
///
/// A container is written in one of the two ways as a whole: beside types that are only messages, wrap a type that has only
/// serde's traits in [`Json`].
///
/// # Attributes
///
/// serde's attributes mean what they mean in serde, without its derive. Some are refused:
///
/// | refused | because |
/// |---|---|
/// | `untagged`, `flatten`, `tag` without `content` | serde reads them through a buffer, which loses descriptors and 128-bit integers |
/// | `from`, `try_from`, `into`, `remote`, `getter`, `other`; `with` and `borrow` on variants | not supported |
///
/// With `tag` and `content` the two come in any order. A [`Deserializer`] of another library has to have the tag first.
///
/// A type without descriptors that needs the refused attributes derives serde's traits, too, and has `#[message(serde)]`: it is
/// then written and read by serde. The other attributes of a type:
///
/// | attribute | meaning |
/// |---|---|
/// | `#[message(reply = Type)]`, optionally `service = "name"`, `error = Type` | the enum is a [`Request`]; it refuses unknown members |
/// | `#[message(other)]` on a variant with an [`UnknownVariant`] | it receives every variant that the enum does not have |
/// | `#[message(crate = "path")]` | the path of this library, if it is not `::jsoncomm` |
///
/// `#[sensitive]` on a field keeps its value out of `Debug`, which the derive then implements, and out of errors:
/// [`DecodeError`], [`EncodeError`] and [`Fault`](crate::Fault) name the field without its value. The
/// [derive](macro@crate::Message) has more.
///
#[doc = include_str!("../doc/types.md")]
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{Packer, UnusedFds, decode, encode};
/// use jsoncomm::fds::Fds;
/// use jsoncomm::Message;
/// use std::fs::File;
/// use std::os::fd::OwnedFd;
///
/// #[derive(Debug, Message)]
/// #[serde(rename_all = "camelCase")]
/// struct Opened {
///     byte_len: u64,
///     #[fd]
///     file: OwnedFd,
/// }
///
/// let file = File::open("/dev/null")?.into();
/// let opened = Opened { byte_len: 12, file };
/// let (mut text, fds) = (Vec::new(), Packer::new());
/// encode(&opened, &mut text, &fds)?;
/// assert_eq!(text, br#"{"byteLen":12,"file":0}"#);
///
/// let mut fds = Fds::new();
/// fds.push(opened.file.try_clone()?)?;
/// let back: Opened = decode(&text, fds, UnusedFds::Refuse)?;
/// assert_eq!(back.byte_len, 12);
///
/// let error = decode::<Opened>(&text, Fds::new(), UnusedFds::Refuse).unwrap_err();
/// assert_eq!(error.to_string(), "file: descriptor 0 is missing, 0 came");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "not a message",
    note = "derive `Message` for it; for a foreign serde type wrap it in `Json`"
)]
pub trait Message: Pack + for<'de> Unpack<'de> {}

#[diagnostic::do_not_recommend]
impl<T: Pack + for<'de> Unpack<'de>> Message for T {}

/// What to do with descriptors that came with a message and that no field names.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{UnusedFds, decode};
/// use jsoncomm::fds::Fds;
/// use std::fs::File;
///
/// for (surplus, fits) in [(UnusedFds::Refuse, false), (UnusedFds::Close, true)] {
///     let mut fds = Fds::new();
///     fds.push(File::open("/dev/null")?.into())?;
///     assert_eq!(decode::<u32>(b"7", fds, surplus).is_ok(), fits);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusedFds {
    /// Refuse the message, as servers do.
    Refuse,
    /// Close them, as clients do: the client's type may be older than the server's.
    Close,
}

/// Appends `message` as JSON to `text`, and its descriptors to `fds`.
///
/// # Errors
///
/// [`EncodeError::NotFinite`] and [`EncodeError::Json`] if the value cannot be written, [`EncodeError::Descriptor`] if a
/// connection cannot be passed on or a descriptor is not of the kind that its field asks for; `text` and `fds` are unchanged.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{Packer, encode};
/// use std::fs::File;
///
/// let file = Some(File::open("/dev/null")?);
/// let (mut text, fds) = (Vec::new(), Packer::new());
/// encode(&file, &mut text, &fds)?;
/// assert_eq!((&text[..], fds.len()), (&b"0"[..], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode<'a, M: Pack + ?Sized>(
    message: &'a M,
    text: &mut Vec<u8>,
    fds: &Packer<'a>,
) -> Result<(), EncodeError> {
    let (length, count) = (text.len(), fds.len());
    let written = message.write(text, fds);
    if written.is_err() {
        text.truncate(length);
        fds.truncate(count);
    }
    written
}

/// Reads one message, which is the whole of `text`, and takes ownership of `fds`.
///
/// White space around the value is allowed. `surplus` decides whether a message that leaves descriptors unused is refused.
/// Descriptors that it does not take are closed in either case.
///
/// # Errors
///
/// All variants of [`DecodeError`]; `fds` are closed then.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{UnusedFds, decode};
/// use jsoncomm::fds::Fds;
/// use jsoncomm::message::DecodeError;
/// use std::fs::File;
///
/// let mut fds = Fds::new();
/// fds.push(File::open("/dev/null")?.into())?;
/// let files: Vec<File> = decode(b"[0]", fds, UnusedFds::Refuse)?;
/// assert_eq!(files.len(), 1);
///
/// let error = decode::<Vec<File>>(b"[0]", Fds::new(), UnusedFds::Refuse).unwrap_err();
/// assert_eq!(error.to_string(), "[0]: descriptor 0 is missing, 0 came");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode<'de, M: Unpack<'de>>(
    text: &'de [u8],
    fds: Fds,
    surplus: UnusedFds,
) -> Result<M, DecodeError> {
    decode_at_depth(Depth::MAX, text, fds, surplus)
}

/// Reads one message, which is the whole of `text`, with this limit of nesting.
pub(crate) fn decode_at_depth<'de, M: Unpack<'de>>(
    depth: Depth,
    text: &'de [u8],
    fds: Fds,
    surplus: UnusedFds,
) -> Result<M, DecodeError> {
    let text = std::str::from_utf8(text).map_err(|error| DecodeError::Syntax {
        reason: error.to_string(),
    })?;
    let fds = Unpacker::at_depth(depth, fds);
    let (message, length) = M::front(text, &fds)?;
    check_end(text, length)?;
    fds.finish(surplus)?;
    Ok(message)
}

/// Refuses a text with more than white space after its first `length` bytes.
pub(crate) fn check_end(text: &str, length: usize) -> Result<(), DecodeError> {
    let mut at = Cursor::new(text);
    at.advance(length);
    if at.is_at_end() {
        Ok(())
    } else {
        Err(at.syntax_error("trailing characters").into())
    }
}

/// Reads a method's arguments from the front of `rest`, and returns how many bytes they took. What `fds` has left is the
/// caller's to [finish](Unpacker::finish).
pub(crate) fn decode_arguments<'de>(
    arguments: &mut dyn Table<'de>,
    rest: &'de str,
    fds: &Unpacker,
) -> Result<((), usize), DecodeError> {
    front(rest, fds, |reader| {
        members::arguments(arguments, fds, reader)
    })
}

/// Reads what variant `method` of a request holds from the front of `rest`, and returns how many bytes it took.
pub(crate) fn decode_params<R: Request>(
    method: usize,
    rest: &str,
    fds: &Unpacker,
) -> Result<(R, usize), DecodeError> {
    front(rest, fds, |reader| R::unpack_params(method, fds, reader))
}

fn front<'de, T>(
    text: &'de str,
    fds: &Unpacker,
    read: impl FnOnce(&mut Reader<'de>) -> Result<T, json::Error>,
) -> Result<(T, usize), DecodeError> {
    let mut reader = Reader::new(text, fds.depth());
    let read = read(&mut reader);
    reader.finish(read).map_err(|error| fds.explain(error))
}

/// Reads one value from the front of `text` with every check, keeps nothing of it and returns how many bytes it took.
pub(crate) fn skip_front(text: &str, depth: Depth) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(text, depth);
    let skipped = reader.skip();
    Ok(reader.finish(skipped)?.1)
}
