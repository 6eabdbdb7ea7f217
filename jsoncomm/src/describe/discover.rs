//! The call `rpc.discover`: what is sent, and what is answered.

use std::fmt;
use std::sync::OnceLock;

use serde::de::DeserializeSeed;
use serde::ser::Error;
use serde::{Deserializer, Serializer};

use super::{Description, document};
use crate::message::{Copied, Pack, Packer, Unpack, Unpacker};

/// The descriptions of what one endpoint serves, and the document, written at the first call and then kept: who asks
/// often costs no more than the sending.
#[derive(Default)]
pub(crate) struct Discovery {
    descriptions: Vec<Description>,
    text: OnceLock<String>,
    off: bool,
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.descriptions.iter().map(Description::name);
        f.debug_list().entries(names).finish()
    }
}

impl Discovery {
    /// Describes one more service.
    pub(crate) fn add(&mut self, description: Description) {
        self.descriptions.push(description);
        self.text.take();
    }

    pub(crate) fn turn_off(&mut self) {
        self.off = true;
    }

    /// Says whether there is something to tell.
    pub(crate) fn is_on(&self) -> bool {
        !self.off && !self.descriptions.is_empty()
    }

    pub(crate) fn text(&self) -> &str {
        let write = || document::document(&self.descriptions).in_one();
        self.text.get_or_init(write)
    }
}

/// What a caller calls that wants to know what is served.
pub(crate) const DISCOVER: &str = "rpc.discover";

/// A document as it came: JSON without white space.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) String);

impl Pack for Text {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("a document is only read"))
    }
}

impl<'de> Unpack<'de> for Text {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
        Copied.deserialize(from).map(Self)
    }
}
