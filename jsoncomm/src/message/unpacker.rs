//! The descriptors of a message while it is read.

use super::UnusedFds;
use crate::error::{DecodeError, FdProblem};
use crate::fds::{Discard, Fds, Giver};
use crate::json;
use crate::limits::Depth;
use serde::de::Error;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The descriptors that came with a message that is being read.
///
/// Owns them: what is not taken is closed with it. The first problem with a descriptor refuses the message, even if the
/// type that met it goes on.
#[derive(Debug)]
pub struct Unpacker {
    fds: RefCell<Fds>,
    depth: Depth,
    problem: Cell<Option<FdProblem>>,
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

    /// Takes over the descriptors of a message with this limit of nesting.
    pub(crate) fn at_depth(depth: Depth, fds: Fds) -> Self {
        Self {
            fds: RefCell::new(fds),
            depth,
            problem: Cell::new(None),
        }
    }

    /// Returns the limit of nesting.
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
        fds.take_tentatively(place).ok_or_else(|| {
            let count = fds.len();
            self.refuse(if place < count {
                FdProblem::Repeated { index }
            } else {
                FdProblem::Missing { index, count }
            })
        })
    }

    /// Records what is wrong with a descriptor and returns the error for the reader.
    pub fn refuse<E: Error>(&self, problem: FdProblem) -> E {
        let first = self.problem.get().unwrap_or(problem);
        self.problem.set(Some(first));
        E::custom(first)
    }

    /// Returns whose the endpoints in the message may be, and what closes those that are dropped.
    pub(crate) fn giver(&self) -> (Giver, Option<Arc<dyn Discard>>) {
        self.fds.borrow().giver()
    }

    /// Moves all descriptors out, in their places.
    pub(super) fn take_all(&self) -> Fds {
        self.fds.take()
    }

    /// Passes on what was read for a `#[sensitive]` member, or an error that repeats nothing of what the peer sent.
    #[doc(hidden)]
    pub fn sensitive<T, E: Error>(&self, read: Result<T, E>) -> Result<T, E> {
        read.map_err(|_| {
            let problem = self.problem.get().map(|_| FdProblem::Withheld);
            self.problem.set(problem);
            E::custom("not what is expected")
        })
    }

    /// Returns the error of the message: the problem with a descriptor, if there is one, or what the reader reports.
    #[cold]
    pub(super) fn explain(&self, error: json::Error) -> DecodeError {
        match self.problem.take() {
            Some(problem) => DecodeError::Descriptor {
                field: error.into_field(),
                problem,
            },
            None => error.into(),
        }
    }

    /// Accepts or refuses the descriptors that are left, which are closed when this is dropped. What was made of a refused
    /// message has to be dropped before.
    ///
    /// # Errors
    ///
    /// [`FdProblem::Surplus`] for the first of them with [`UnusedFds::Refuse`], and whatever problem was
    /// recorded though the reader went on.
    pub fn finish(&self, unused: UnusedFds) -> Result<(), DecodeError> {
        let mut fds = self.fds.borrow_mut();
        if fds.is_empty() && self.problem.get().is_none() {
            return Ok(());
        }
        let left = fds.iter().next().map(|(index, _)| index);
        let left = left.filter(|_| unused == UnusedFds::Refuse);
        let problem = self.problem.take();
        match problem.or(left.map(|index| FdProblem::Surplus { index })) {
            None => {
                fds.confirm_taken();
                Ok(())
            }
            Some(problem) => Err(DecodeError::Descriptor {
                field: None,
                problem,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_kept() {
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
