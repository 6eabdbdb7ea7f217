//! Any serde type as a message, alone or with descriptors that no field names.

use super::{Pack, Packer, Unpack, Unpacker, WithoutFds, absent, whole};
use crate::fds::Fds;
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Makes any serde type a message; it carries no descriptors.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{Json, Packer, encode};
///
/// let mut text = Vec::new();
/// encode(&Json(["a", "b"]), &mut text, &Packer::new())?;
/// assert_eq!(text, br#"["a","b"]"#);
/// # Ok::<(), jsoncomm::message::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

impl<T: Serialize> Pack for Json<T> {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(out)
    }
}

impl<T> WithoutFds for Json<T> {}

impl<'de, T: Deserialize<'de>> Unpack<'de> for Json<T> {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
        whole(T::deserialize(from)).map(Json)
    }

    fn absent() -> Option<Self> {
        absent().map(Json)
    }
}

/// The untyped message: any serde type and the descriptors that came or go with it.
///
/// An integer of more than 64 bits in a `serde_json::Value` is refused, by its path, unless the program has serde_json
/// keep every digit (`arbitrary_precision`); see [JSON](crate::message#json). [`RawMessage`](super::RawMessage) keeps all.
///
/// Which member names which descriptor is the user's to say and to check. It is a message as a whole:
/// beside or within another message that has descriptors it cannot be written.
///
/// # Examples
///
/// ```
/// use jsoncomm::fds::Fds;
/// use jsoncomm::message::{UnusedFds, WithFds, decode};
/// use std::fs::File;
///
/// let mut fds = Fds::new();
/// fds.push(File::open("/dev/null")?.into())?;
/// let mut message: WithFds<(String, usize)> = decode(br#"["log", 0]"#, fds, UnusedFds::Refuse)?;
/// assert!(message.fds.take(message.json.1).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct WithFds<T> {
    /// The JSON text's value.
    pub json: T,
    /// The descriptors, by the indices that the value names them by.
    pub fds: Fds,
}

impl<T: Serialize> Pack for WithFds<T> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        if !fds.push_all(&self.fds) {
            let reason = "descriptors of an untyped message would change their indices";
            return Err(S::Error::custom(reason));
        }
        self.json.serialize(out)
    }
}

impl<'de, T: Deserialize<'de>> Unpack<'de> for WithFds<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        Ok(Self {
            json: whole(T::deserialize(from))?,
            fds: fds.take_all()?,
        })
    }
}
