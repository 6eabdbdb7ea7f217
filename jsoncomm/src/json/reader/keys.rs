//! The keys of one object, and which of them are there twice.

use crate::json::clip;
use serde::de::Error;
use std::borrow::Cow;

/// How serde_json names the only member of a map that it makes up to hand over a text.
pub(crate) const MADE_UP: &str = "$serde_json::private::";
/// A number's, where a program has every digit kept (`arbitrary_precision`).
pub(crate) const NUMBER: &str = "$serde_json::private::Number";

/// The keys of one object.
#[derive(Default)]
pub(super) struct Keys<'de> {
    /// Needs no room.
    first: Option<&'de str>,
    rest: Vec<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    #[inline]
    pub(super) fn push(&mut self, key: Cow<'de, str>) {
        match (self.first, key) {
            (None, Cow::Borrowed(key)) => self.first = Some(key),
            (_, key) => self.rest.push(key),
        }
    }

    /// Refuses the object if one came twice.
    #[inline]
    pub(super) fn finish<E: Error>(&mut self) -> Result<(), E> {
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
