//! Integers of more than 64 bits, where any value is read: serde has no number for them that keeps all digits there.

use super::Reader;
use serde::de::Error as _;
use serde_json::Error;

/// Most digits of such a number that a complaint repeats.
const DIGITS_SHOWN: usize = 40;

/// A number that would have lost digits: what was said of it, and where it stands.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) reason: String,
    pub(crate) path: String,
}

impl Reader<'_> {
    /// Refuses what has been read since `start` as the nearest float, if it is an integer whose digits that float does
    /// not have.
    pub(super) fn check_digits(&mut self, start: usize, float: f64) -> Result<(), Error> {
        let digits = self
            .at
            .whole()
            .get(start..self.position())
            .unwrap_or_default();
        match digits.contains(['.', 'e', 'E']) || float.to_string() == digits {
            true => Ok(()),
            false => Err(self.lose(digits)),
        }
    }

    #[cold]
    fn lose(&mut self, digits: &str) -> Error {
        let shown = digits.get(..DIGITS_SHOWN).unwrap_or(digits);
        let more = if shown.len() < digits.len() {
            "…"
        } else {
            ""
        };
        let reason = format!("integer {shown}{more} has more than 64 bits");
        let error = Error::custom(&reason);
        let path = String::new();
        self.lost = Some(Lost { reason, path });
        error
    }

    /// Says of a number that was lost in the member that it was lost there.
    #[cold]
    pub(super) fn lost_within(&mut self, member: &str) {
        if let Some(lost) = &mut self.lost {
            crate::json::put_before(&mut lost.path, member);
        }
    }
}
