//! What is in an array or an object, part by part.

use super::key::Key;
use super::keys::{Keys, MADE_UP};
use super::{Reader, Step};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess};
use serde_json::Error;
use std::borrow::Cow;

/// The elements of an array.
pub(super) struct Elements<'r, 'de> {
    pub(super) from: &'r mut Reader<'de>,
    pub(super) first: bool,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.from.step(b']', &mut self.first) {
            Step::Part => match seed.deserialize(&mut *self.from) {
                Ok(value) => Ok(Some(value)),
                Err(error) => {
                    self.from.lost_within("[]");
                    Err(error)
                }
            },
            Step::End => Ok(None),
            Step::Mistake => Err(self.from.ends_badly()),
        }
    }
}

/// Which keys of an object can be there twice without the visitor seeing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// All, where it makes a map.
    All,
    /// Those that it skips, where it makes a struct: it refuses its own if they come twice.
    Skipped,
}

/// The members of an object.
pub(super) struct Entries<'r, 'k, 'de> {
    pub(super) from: &'r mut Reader<'de>,
    pub(super) first: bool,
    pub(super) unseen: Unseen,
    /// That of the value that comes next.
    pub(super) key: Cow<'de, str>,
    pub(super) keys: &'k mut Keys<'de>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.from.step(b'}', &mut self.first) {
            Step::Part => {}
            Step::End => return Ok(None),
            Step::Mistake => return Err(self.from.ends_badly()),
        }
        if self.from.at.peek() != b'"' {
            return Err(self.from.fail("key must be a string"));
        }
        self.key = self.from.string()?;
        if self.unseen == Unseen::All && self.key.starts_with(MADE_UP) {
            return Err(Error::custom("a key that serde_json keeps for itself"));
        }
        seed.deserialize(Key::new(&self.key)).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.from.colon()?;
        self.from.skipped = false;
        let value = seed.deserialize(&mut *self.from);
        // The visitor may go on behind an error.
        if value.is_err() {
            self.from.lost_within(&self.key);
        }
        if self.unseen == Unseen::All || self.from.skipped || value.is_err() {
            self.keys.push(std::mem::take(&mut self.key));
        }
        value
    }
}
