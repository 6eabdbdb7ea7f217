//! The members of one object, and which of their keys have been there before.

use super::key::{Key, Name, NameSeed};
use super::{Skipped, Within};
use crate::message::unpacker::clip;
use serde::de::{DeserializeSeed, Error, MapAccess};
use std::borrow::Cow;

/// How serde_json names the only member of a map that it makes up to hand over a text.
pub(crate) const MADE_UP: &str = "$serde_json::private::";
/// A value's, for a `RawValue`.
const RAW: &str = "$serde_json::private::RawValue";
/// A number's, where a program has every digit kept (`arbitrary_precision`).
pub(crate) const NUMBER: &str = "$serde_json::private::Number";

/// The keys of one object.
#[derive(Default)]
struct Keys<'de> {
    /// Needs no room.
    first: Option<&'de str>,
    rest: Vec<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    #[inline]
    fn push(&mut self, key: Cow<'de, str>) {
        match (self.first, key) {
            (None, Cow::Borrowed(key)) => self.first = Some(key),
            (_, key) => self.rest.push(key),
        }
    }

    /// Refuses the object if one came twice.
    #[inline]
    fn finish<E: Error>(&mut self) -> Result<(), E> {
        if self.rest.is_empty() {
            return Ok(());
        }
        self.rest.extend(self.first.map(Cow::Borrowed));
        repeated(&mut self.rest).map_or(Ok(()), |reason| Err(E::custom(reason)))
    }
}

/// Says which key is there twice, if one is. Sorts them.
pub(crate) fn repeated(keys: &mut [Cow<'_, str>]) -> Option<String> {
    keys.sort_unstable();
    keys.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(format!("key {:?} is repeated", clip(one))),
        _ => None,
    })
}

/// The members of what may be a map.
pub(super) struct Object<'s, 'de, A> {
    from: A,
    skipped: Skipped<'s>,
    keys: Keys<'de>,
}

impl<'s, A> Object<'s, '_, A> {
    #[inline]
    pub(super) fn new(from: A, skipped: Skipped<'s>) -> Self {
        let keys = Keys::default();
        Self {
            from,
            skipped,
            keys,
        }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Object<'_, 'de, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        match self.from.next_key_seed(NameSeed)? {
            None => self.keys.finish().map(|()| None),
            Some(Name::Text(name)) if name.starts_with(MADE_UP) => {
                Err(A::Error::custom("a key that serde_json keeps for itself"))
            }
            Some(Name::Text(name)) => {
                let key = seed.deserialize(Key::new(&name))?;
                self.keys.push(name);
                Ok(Some(key))
            }
            Some(Name::MadeUp(name)) => {
                // A text that is handed over unread counts as skipped.
                if let (RAW, Some(skipped)) = (name, self.skipped) {
                    skipped.set(true);
                }
                seed.deserialize(Key::new(&Cow::Borrowed(name))).map(Some)
            }
        }
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.from.next_value_seed(Within(seed, self.skipped))
    }

    fn size_hint(&self) -> Option<usize> {
        self.from.size_hint()
    }
}
