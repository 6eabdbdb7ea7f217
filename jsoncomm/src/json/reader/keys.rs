//! The keys of one object, and which of them is repeated.

use crate::json::{Error, clip};
use std::borrow::Cow;
use std::collections::HashSet;

/// Start of the names under which `serde_json` passes a text through serde.
pub(crate) const RESERVED: &str = "$serde_json::private::";
/// Name of a number that keeps every digit (`arbitrary_precision`).
pub(crate) const NUMBER: &str = "$serde_json::private::Number";

/// The keys of one object.
#[derive(Default)]
pub(super) struct Keys<'de> {
    /// Needs no allocation.
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

    /// Refuses the object if a key is repeated.
    #[inline]
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        self.rest.extend(self.first.map(Cow::Borrowed));
        repeated(&self.rest).map_or(Ok(()), |reason| Err(Error::data(reason)))
    }
}

/// Returns an error's text that names a repeated key, if there is one.
pub(crate) fn repeated(keys: &[Cow<'_, str>]) -> Option<String> {
    let mut seen = HashSet::new();
    let repeated = keys.iter().find(|key| !seen.insert(&***key))?;
    Some(format!("key {:?} is repeated", clip(repeated)))
}
