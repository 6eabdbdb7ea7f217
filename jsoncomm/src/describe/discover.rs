//! The call `rpc.discover` and its reply.

use std::fmt;
use std::sync::OnceLock;

use serde::de::DeserializeSeed;
use serde::ser::Error;
use serde::{Deserializer, Serializer};

use super::document::IsRestricted;
use super::text::Text;
use super::{Description, document};
use crate::message::{Copied, Pack, Packer, Unpack, Unpacker};

/// The descriptions of what one endpoint serves. Their document is written at the first call and kept, so that further calls
/// only cost the sending.
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
    /// Adds the description of a service. Without the feature `discover` nothing refers to it.
    pub(crate) fn add(&mut self, description: Description) {
        if cfg!(feature = "discover") {
            self.descriptions.push(description);
            self.text.take();
        }
    }

    pub(crate) fn turn_off(&mut self) {
        self.off = true;
    }

    /// Returns true if discovery is on and there is a service to describe.
    pub(crate) fn is_on(&self) -> bool {
        cfg!(feature = "discover") && !self.off && !self.descriptions.is_empty()
    }

    /// Returns the document. `is_restricted` is the same each time.
    pub(crate) fn text(&self, is_restricted: IsRestricted<'_>) -> &str {
        let write = || document::document(&self.descriptions, is_restricted, Text::in_one());
        self.text.get_or_init(write)
    }
}

/// The method that returns the document.
pub(crate) const DISCOVER: &str = "rpc.discover";

/// A received document: JSON without white space.
#[derive(Debug)]
pub(crate) struct Document(pub(crate) String);

impl Pack for Document {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("a document is only read"))
    }
}

impl<'de> Unpack<'de> for Document {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
        Copied.deserialize(from).map(Self)
    }
}
