//! What is in an array or an object, part by part. Here an error gets the member or element that it is about.

use super::Reader;
use super::key::Key;
use super::keys::{Keys, RESERVED};
use crate::json::Error;
use crate::json::cursor::{Cursor, NO_KEY};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess};
use std::borrow::Cow;

/// The elements of an array.
pub(crate) struct Elements<'r, 'de> {
    pub(super) from: &'r mut Reader<'de>,
    /// Names of the elements, as far as they have some.
    pub(super) names: &'static [&'static str],
    /// How many have been read.
    pub(super) count: usize,
}

impl<'de> Elements<'_, 'de> {
    /// Reads the next element with `read`. Returns `None` at the end.
    #[inline]
    pub(crate) fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if !self.from.step(b']', self.count == 0)? {
            return Ok(None);
        }
        self.count += 1;
        let value = read(self.from);
        value.map(Some).map_err(|error| self.blame(error))
    }

    /// Blames the element that was read last.
    #[cold]
    fn blame(&self, error: Error) -> Error {
        let index = self.count - 1;
        match self.names.get(index) {
            Some(name) => error.within(name),
            None => error.within_element(index),
        }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(|from| seed.deserialize(from))
    }
}

/// Which keys of an object can be repeated without the visitor seeing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// All, where it makes a map.
    All,
    /// Those that it skips, where it makes a struct: it refuses its own if they are repeated.
    Skipped,
}

/// The members of an object.
pub(crate) struct Entries<'r, 'k, 'de> {
    from: &'r mut Reader<'de>,
    is_first: bool,
    unseen: Unseen,
    /// Key of the next value.
    key: Cow<'de, str>,
    keys: &'k mut Keys<'de>,
}

impl<'r, 'k, 'de> Entries<'r, 'k, 'de> {
    #[inline]
    pub(super) fn new(from: &'r mut Reader<'de>, unseen: Unseen, keys: &'k mut Keys<'de>) -> Self {
        Self {
            from,
            is_first: true,
            unseen,
            key: Cow::Borrowed(""),
            keys,
        }
    }

    /// The key that was read last.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Reads the value of that key with `read`.
    #[inline]
    pub(crate) fn value<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.from.colon()?;
        let value = read(self.from).map_err(|error| error.within(&self.key));
        let skipped = std::mem::take(&mut self.from.skipped);
        // The visitor may continue after an error.
        if self.unseen == Unseen::All || skipped || value.is_err() {
            self.keys.push(std::mem::take(&mut self.key));
        }
        value
    }

    /// Reads the next key; returns false at the end.
    #[inline(always)]
    pub(crate) fn next_key(&mut self) -> Result<bool, Error> {
        let is_first = std::mem::take(&mut self.is_first);
        if !self.from.step(b'}', is_first)? {
            return Ok(false);
        }
        if self.from.cursor.peek() != b'"' {
            return Err(self.from.syntax_error(NO_KEY));
        }
        self.key = self.from.string()?;
        Ok(true)
    }

    #[inline(always)]
    fn read_key<S: DeserializeSeed<'de>>(&self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.unseen == Unseen::All && self.key.starts_with(RESERVED) {
            return Err(Error::data("a key that serde_json reserves for itself"));
        }
        seed.deserialize(Key(&self.key)).map(Some)
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if !self.next_key()? {
            return Ok(None);
        }
        self.read_key(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.value(|from| seed.deserialize(from))
    }
}

/// The members of an object that has a tag and a content. Content that comes before its tag is read after it, and checked
/// only then: each level of a type that holds itself may be passed over once for each level around it.
pub(super) struct TagFirst<'r, 'k, 'de> {
    entries: Entries<'r, 'k, 'de>,
    names: [&'static str; 2],
    is_tagged: bool,
    /// After the key of content that came before its tag, and the position of what follows the content.
    early: Option<(Cursor<'de>, usize)>,
    /// Where to continue after such content, and that position.
    next: Option<(Cursor<'de>, usize)>,
}

impl<'r, 'k, 'de> TagFirst<'r, 'k, 'de> {
    pub(super) fn new(entries: Entries<'r, 'k, 'de>, names: [&'static str; 2]) -> Self {
        Self {
            entries,
            names,
            is_tagged: false,
            early: None,
            next: None,
        }
    }

    /// Passes over content that comes before its tag.
    fn skip_content(&mut self, content: &'static str) -> Result<(), Error> {
        if self.early.is_some() {
            return Err(Error::duplicate_field(content));
        }
        let from = &mut *self.entries.from;
        let start = from.cursor.clone();
        from.colon()?;
        let passed = from.cursor.pass_over();
        passed.map_err(|error| from.fail_for_good(error))?;
        self.early = Some((start, from.cursor.position()));
        Ok(())
    }
}

impl<'de> MapAccess<'de> for TagFirst<'_, '_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let [tag, content] = self.names;
        loop {
            if let Some((early, end)) = self.early.take_if(|_| self.is_tagged) {
                let next = std::mem::replace(&mut self.entries.from.cursor, early);
                self.next = Some((next, end));
                self.entries.key = Cow::Borrowed(content);
                break;
            }
            if !self.entries.next_key()? {
                return Ok(None);
            }
            if self.is_tagged || self.entries.key != content {
                self.is_tagged |= self.entries.key == tag;
                break;
            }
            self.skip_content(content)?;
        }
        self.entries.read_key(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.entries.next_value_seed(seed)?;
        if let Some((next, end)) = self.next.take() {
            let from = &mut *self.entries.from;
            from.cursor.peek();
            // There may be more than one value, or a type has ignored an error in it.
            if from.cursor.position() != end {
                return Err(from.unread());
            }
            from.cursor = next;
        }
        Ok(value)
    }
}
