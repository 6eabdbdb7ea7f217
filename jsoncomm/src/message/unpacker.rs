//! The descriptors that are taken while a message is read, and what goes wrong meanwhile.

use super::{UnusedFds, syntax};
use crate::error::{DecodeError, FdProblem};
use crate::fds::Fds;
use crate::json::{Broken, Lost, clip, put_before};
use crate::limits::Depth;
use serde::Deserialize;
use serde::de::{Error, Expected, IgnoredAny};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::os::fd::OwnedFd;

/// The descriptors that came with a message that is being read.
///
/// Owns them: what is not taken is closed with it. It also keeps what serde's errors cannot carry: the
/// first problem with a descriptor, and the path of the member that was being read when reading failed.
#[derive(Debug)]
pub struct Unpacker {
    fds: RefCell<Fds>,
    depth: Depth,
    problem: Cell<Option<FdProblem>>,
    path: RefCell<String>,
    /// The error on its way out is no longer the reader's own.
    withheld: Cell<bool>,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::new(Fds::new())
    }
}

impl Unpacker {
    /// Takes over the descriptors of one message.
    pub fn new(fds: Fds) -> Self {
        Self::at_depth(Depth::MAX, fds)
    }

    /// The same for a message that may be so deep.
    pub(crate) fn at_depth(depth: Depth, fds: Fds) -> Self {
        Self {
            fds: RefCell::new(fds),
            depth,
            problem: Cell::new(None),
            path: RefCell::new(String::new()),
            withheld: Cell::new(false),
        }
    }

    /// How deep the message may be.
    pub(crate) fn depth(&self) -> Depth {
        self.depth
    }

    /// Moves the descriptor at `index` out.
    ///
    /// # Errors
    ///
    /// [`FdProblem::Missing`] or [`FdProblem::Repeated`], in the reader's own error type.
    pub fn take<E: Error>(&self, index: u64) -> Result<OwnedFd, E> {
        let mut fds = self.fds.borrow_mut();
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        fds.take_for_now(place).ok_or_else(|| {
            let count = fds.len();
            self.refuse(if place < count {
                FdProblem::Repeated { index }
            } else {
                FdProblem::Missing { index, count }
            })
        })
    }

    /// Records what is wrong with a descriptor and makes the error to return.
    pub fn refuse<E: Error>(&self, problem: FdProblem) -> E {
        let first = self.problem.get().unwrap_or(problem);
        self.problem.set(Some(first));
        E::custom(first)
    }

    /// Moves all descriptors out, in their places.
    pub(super) fn take_all(&self) -> Fds {
        self.fds.take()
    }

    /// Puts `member` before the path of the failure that is on its way out; an array's element is
    /// written `[3]`.
    #[doc(hidden)]
    pub fn within(&self, member: &str) {
        put_before(&mut self.path.borrow_mut(), member);
    }

    /// Passes on what was read for a `#[sensitive]` member, or that it could not be: not why, which would repeat
    /// what the peer sent.
    #[doc(hidden)]
    pub fn sensitive<T, E: Error>(&self, read: Result<T, E>) -> Result<T, E> {
        read.map_err(|_| self.withhold("not what is expected"))
    }

    /// Withholds what was found in the place of members of which one is sensitive. An error within a member has a path
    /// already, and is kept.
    pub(super) fn in_place<T, E: Error>(
        &self,
        expecting: &dyn Expected,
        read: Result<T, E>,
    ) -> Result<T, E> {
        match read {
            Err(_) if self.path.borrow().is_empty() => {
                Err(self.withhold(format_args!("expected {expecting}")))
            }
            other => other,
        }
    }

    fn withhold<E: Error>(&self, reason: impl Display) -> E {
        self.path.borrow_mut().clear();
        let problem = self.problem.get().map(|_| FdProblem::Withheld);
        self.problem.set(problem);
        self.withheld.set(true);
        E::custom(reason)
    }

    /// Makes the error out of what the reader reports and what was recorded on the way; `text` is what was being
    /// read.
    #[cold]
    pub(super) fn explain(
        &self,
        error: &serde_json::Error,
        broken: Option<Broken>,
        lost: Option<Lost>,
        text: &str,
    ) -> DecodeError {
        let field = Some(self.path.take()).filter(|path| !path.is_empty());
        if let Some(problem) = self.problem.take() {
            return DecodeError::Descriptor { field, problem };
        }
        if broken == Some(Broken::TooDeep) {
            let limit = self.depth.limit();
            return DecodeError::TooDeep { limit };
        }
        // Broken JSON is that in a sensitive member, too, and serde_json quotes nothing of it.
        if broken.is_some() || self.withheld.get() {
            if let Some(error) = json_error(text) {
                return not_json(&error, text);
            }
        }
        let reason = error.to_string();
        let position = format!(" at line {} column {}", error.line(), error.column());
        let reason = plain(reason.strip_suffix(&position).unwrap_or(&reason));
        // All of the path, within what is no type of ours as well.
        let lost = lost.filter(|lost| !self.withheld.get() && lost.reason == reason);
        let field = lost
            .map(|lost| lost.path)
            .filter(|path| !path.is_empty())
            .or(field);
        DecodeError::Shape {
            field,
            reason: match clip(reason) {
                clipped if clipped.len() < reason.len() => format!("{clipped}…"),
                whole => whole.to_owned(),
            },
        }
    }

    /// Decides about the message and the descriptors that are left, which are closed with this. If it is refused, that
    /// has to be after what was made of the message is dropped.
    ///
    /// # Errors
    ///
    /// [`FdProblem::Surplus`] for the first of them with [`UnusedFds::Refuse`], and whatever problem was
    /// recorded though the reader went on.
    pub fn finish(&self, surplus: UnusedFds) -> Result<(), DecodeError> {
        let mut fds = self.fds.borrow_mut();
        let left = fds.iter().next().map(|(index, _)| index);
        let left = left.filter(|_| surplus == UnusedFds::Refuse);
        let problem = self.problem.take();
        match problem.or(left.map(|index| FdProblem::Surplus { index })) {
            None => {
                fds.taken();
                Ok(())
            }
            Some(problem) => Err(DecodeError::Descriptor {
                field: None,
                problem,
            }),
        }
    }
}

/// Names the cause where serde_json's words are about its own reading.
fn plain(reason: &str) -> &str {
    match reason {
        "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
            r"a lone surrogate is not a character: \ud800 to \udbff and \udc00 to \udfff come in pairs"
        }
        other => other,
    }
}

/// Says why `text` is not JSON. NaN and infinity, which other libraries write, are an "expected value" to serde_json.
#[cold]
pub(crate) fn not_json(error: &serde_json::Error, text: &str) -> DecodeError {
    let (reason, (line, column)) = (error.to_string(), (error.line(), error.column()));
    let no_value = ["expected value", "expected ident", "invalid number"];
    let is_no_value = no_value.iter().any(|start| reason.starts_with(start));
    match is_no_value && stands_for_no_number(text, line, column) {
        true => syntax(&format!(
            "NaN and infinity are not JSON, at line {line} column {column}"
        )),
        false => syntax(&reason),
    }
}

/// Returns true if a word for NaN or infinity begins where a reader stopped.
fn stands_for_no_number(text: &str, line: usize, column: usize) -> bool {
    /// It stops at the first character, or behind that, and counts from 1.
    const BEFORE: usize = 3;
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let near = line.as_bytes().get(column.saturating_sub(BEFORE)..);
    let mut words = near.unwrap_or_default().windows(BEFORE).take(BEFORE);
    words.any(|word| word.eq_ignore_ascii_case(b"nan") || word.eq_ignore_ascii_case(b"inf"))
}

/// What keeps a JSON value from standing at the front of `text`, if something does.
fn json_error(text: &str) -> Option<serde_json::Error> {
    IgnoredAny::deserialize(&mut serde_json::Deserializer::from_str(text)).err()
}

/// Says that something stands behind the value.
pub(crate) fn trailing(text: &str) -> DecodeError {
    let mut reader = serde_json::Deserializer::from_str(text);
    let skipped = IgnoredAny::deserialize(&mut reader);
    let whole = skipped.and_then(|_| reader.end());
    match whole {
        Err(error) => not_json(&error, text),
        Ok(()) => syntax(&"trailing characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_outwards() {
        let fds = Unpacker::new(Fds::new());
        for member in ["file", "[3]", "items", "reply"] {
            fds.within(member);
        }
        assert_eq!(*fds.path.borrow(), "reply.items[3].file");
    }

    #[test]
    fn the_first_problem_stands() {
        let fds = Unpacker::new(Fds::new());
        for index in [4, 5] {
            assert!(fds.take::<serde::de::value::Error>(index).is_err());
        }
        let first = FdProblem::Missing { index: 4, count: 0 };
        assert_eq!(fds.problem.get(), Some(first));
        let error = fds.finish(UnusedFds::Close).unwrap_err();
        assert!(matches!(error, DecodeError::Descriptor { problem, .. } if problem == first));
    }
}
