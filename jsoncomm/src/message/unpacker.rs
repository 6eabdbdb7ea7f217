//! The descriptors of a message while it is read.

use super::UnusedFds;
use crate::error::{DecodeError, FdProblem};
use crate::fds::{Discard, FdKind, Fds, Giver};
use crate::json;
use crate::limits::Depth;
use serde::de::Error;
use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, OwnedFd};
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
    /// What each descriptor that is taken has to be.
    asked: Cell<Option<Asked>>,
}

/// What a descriptor has to be, and the function that looks. It is a pointer, so that programs that ask for nothing do not
/// contain it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: FdKind,
    /// Returns what the descriptor is if it does not fit.
    look: fn(FdKind, BorrowedFd<'_>) -> Option<FdKind>,
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
            asked: Cell::new(None),
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
    /// [`FdProblem::Missing`] or [`FdProblem::Repeated`], or [`FdProblem::Unfit`] within a field that asks for a kind, in the
    /// reader's own error type.
    pub fn take<E: Error>(&self, index: u64) -> Result<OwnedFd, E> {
        if let Some(asked) = self.asked.get() {
            self.check(index, |fd| asked.problem(index, fd))?;
        }
        let mut fds = self.fds.borrow_mut();
        let place = place(index);
        fds.take_tentatively(place).ok_or_else(|| {
            let count = fds.len();
            self.refuse(if place < count {
                FdProblem::Repeated { index }
            } else {
                FdProblem::Missing { index, count }
            })
        })
    }

    /// Refuses the descriptor at `index` if something is wrong with it. It stays in the list, which is closed without waiting.
    pub(crate) fn check<E: Error>(
        &self,
        index: u64,
        problem: impl FnOnce(BorrowedFd<'_>) -> Option<FdProblem>,
    ) -> Result<(), E> {
        let problem = self.fds.borrow().get(place(index)).and_then(problem);
        problem.map_or(Ok(()), |problem| Err(self.refuse(problem)))
    }

    /// Reads a part of the message, each descriptor of which has to be of a kind.
    #[doc(hidden)]
    pub fn of_kind<T>(&self, kind: FdKind, read: impl FnOnce() -> T) -> T {
        let around = self.asked.get();
        let kind = around.map_or(kind, |around| around.kind.and(kind));
        let look = FdKind::unless_fits;
        self.asked.set(Some(Asked { kind, look }));
        let read = read();
        self.asked.set(around);
        read
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
    ///
    /// # Errors
    ///
    /// [`FdProblem::Unfit`] within a field that asks for a kind.
    pub(super) fn take_all<E: Error>(&self) -> Result<Fds, E> {
        if let Some(asked) = self.asked.get() {
            for index in (0..).take(self.fds.borrow().len()) {
                self.check(index, |fd| asked.problem(index, fd))?;
            }
        }
        Ok(self.fds.take())
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

impl Asked {
    fn problem(self, index: u64, fd: BorrowedFd<'_>) -> Option<FdProblem> {
        let came = (self.look)(self.kind, fd)?;
        let wanted = self.kind;
        Some(FdProblem::Unfit {
            index,
            wanted,
            came,
        })
    }
}

/// Returns an index of the JSON as one of the list.
fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
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
