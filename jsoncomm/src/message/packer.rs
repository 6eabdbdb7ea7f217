//! The descriptors of a message while it is written, and what passes them through serde.

use super::PackPart;
use super::few::Few;
use crate::error::{EncodeError, FdProblem};
use crate::fds::{FdKind, Fds};
use crate::json;
use crate::limits::Depth;
use serde::ser::Error;
use serde::{Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;

/// The descriptors of a message that is being written, in order; borrowed for `'a` from the message.
///
/// A descriptor's position here is its index in the JSON. Allocates with the fifth descriptor.
#[derive(Debug)]
pub struct Packer<'a> {
    fds: RefCell<Row<'a>>,
    depth: Cell<Depth>,
    problem: Cell<Option<FdProblem>>,
}

impl Default for Packer<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Packer<'a> {
    /// Makes an empty list.
    pub const fn new() -> Self {
        Self::at_depth(Depth::MAX)
    }

    /// Makes an empty list, for a message with this limit of nesting.
    pub(crate) const fn at_depth(depth: Depth) -> Self {
        Self {
            fds: RefCell::new(Row::Empty),
            depth: Cell::new(depth),
            problem: Cell::new(None),
        }
    }

    /// Lowers the limit by the arrays and objects that are open around what is written next.
    pub(crate) fn open(&self, levels: u8) {
        self.depth.set(self.depth().inside(levels));
    }

    /// Returns the limit of nesting for what is written next.
    pub(crate) fn depth(&self) -> Depth {
        self.depth.get()
    }

    /// Appends `fd` and returns its index, which stands in the JSON.
    pub fn push(&self, fd: BorrowedFd<'a>) -> usize {
        let mut fds = self.fds.borrow_mut();
        fds.push(fd);
        fds.len() - 1
    }

    /// Records why a descriptor cannot be sent, and returns the error for the writer.
    pub(crate) fn refuse<E: Error>(&self, problem: FdProblem) -> E {
        self.problem.set(Some(problem));
        E::custom(problem)
    }

    /// Returns the error of the message: the problem with a descriptor, if there is one, or what the writer reports.
    #[cold]
    pub(super) fn explain(&self, error: json::Error) -> EncodeError {
        match self.problem.take() {
            Some(problem) => EncodeError::Descriptor {
                field: error.into_field(),
                problem,
            },
            None => error.into(),
        }
    }

    /// Appends all of `fds`; returns false if one has another index here.
    pub(super) fn push_all(&self, fds: &'a Fds) -> bool {
        fds.iter().all(|(index, fd)| self.push(fd) == index)
    }

    /// Returns the number of descriptors so far.
    pub fn len(&self) -> usize {
        self.fds.borrow().len()
    }

    /// Returns true if no descriptor has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the descriptors in order.
    pub fn into_fds(self) -> Vec<BorrowedFd<'a>> {
        self.into_row().to_vec()
    }

    /// Returns the descriptors in order, without allocating for a few.
    pub(crate) fn into_row(self) -> Row<'a> {
        self.fds.into_inner()
    }

    /// Returns the first descriptor from an index on that is not of this kind.
    fn find_unfit(&self, from: usize, wanted: FdKind) -> Option<FdProblem> {
        let fds = self.fds.borrow();
        let mut all = (0..).zip(fds.iter()).skip(from);
        all.find_map(|(index, fd)| {
            let came = wanted.unless_fits(*fd)?;
            Some(FdProblem::Unfit {
                index,
                wanted,
                came,
            })
        })
    }

    /// Drops all but the first `count`.
    pub(super) fn truncate(&self, count: usize) {
        self.fds.borrow_mut().truncate(count);
    }
}

/// Borrowed descriptors, of which up to four need no allocation.
pub(crate) type Row<'a> = Few<BorrowedFd<'a>, 4>;

/// A message with the list for its descriptors, in a form that serde's collections take.
#[doc(hidden)]
#[derive(Debug)]
pub struct Packed<'p, 'a, T: ?Sized>(pub &'a T, pub &'p Packer<'a>);

impl<T: PackPart + ?Sized> Serialize for Packed<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.pack_part(self.1, serializer)
    }
}

/// A part of a message, each descriptor of which has to be of a kind.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfKind<'p, 'a, T: ?Sized> {
    part: Packed<'p, 'a, T>,
    kind: FdKind,
    /// The problem is told only as [`FdProblem::Withheld`].
    sensitive: bool,
}

impl<'p, 'a, T: ?Sized> OfKind<'p, 'a, T> {
    pub fn new(part: &'a T, fds: &'p Packer<'a>, kind: FdKind) -> Self {
        Self {
            part: Packed(part, fds),
            kind,
            sensitive: false,
        }
    }

    pub fn sensitive(self) -> Self {
        Self {
            sensitive: true,
            ..self
        }
    }
}

impl<T: PackPart + ?Sized> Serialize for OfKind<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fds = self.part.1;
        let from = fds.len();
        let written = self.part.serialize(serializer)?;
        let Some(problem) = fds.find_unfit(from, self.kind) else {
            return Ok(written);
        };
        let told = if self.sensitive {
            FdProblem::Withheld
        } else {
            problem
        };
        Err(fds.refuse(told))
    }
}

/// A `#[sensitive]` value and its name. An error says no more than the name: the reason might repeat the value.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sensitive<'v, T: ?Sized>(pub &'static str, pub &'v T);

impl<T: Serialize + ?Sized> Serialize for Sensitive<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        sensitive(self.0, self.1.serialize(serializer))
    }
}

/// Passes on that a `#[sensitive]` value was written, or an error that says no more than its name.
#[doc(hidden)]
pub fn sensitive<T, E: Error>(name: &str, written: Result<T, E>) -> Result<T, E> {
    written.map_err(|_| E::custom(format_args!("`{name}` refuses to be written")))
}

/// An enum whose variants' contents can be written alone; `{}` for a unit variant.
#[doc(hidden)]
pub trait PackContent {
    fn pack_content<'a, S: Serializer>(
        &'a self,
        fds: &Packer<'a>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>;
}

/// The content of an enum's variant with the list for its descriptors.
#[doc(hidden)]
#[derive(Debug)]
pub struct ContentOf<'p, 'a, T>(pub &'a T, pub &'p Packer<'a>);

impl<T: PackContent> Serialize for ContentOf<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.pack_content(self.1, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_row_keeps_few_or_many_descriptors_in_order() {
        let null = || File::open("/dev/null").unwrap();
        let files = [null(), null(), null(), null(), null(), null()];
        let filled = |length| {
            let fds = Packer::new();
            for (place, file) in files.iter().take(length).enumerate() {
                assert_eq!(fds.push(file.as_fd()), place);
            }
            assert_eq!((fds.len(), fds.is_empty()), (length, length == 0));
            fds
        };
        let last = null();
        let number = |fd: &BorrowedFd<'_>| fd.as_raw_fd();
        let numbers: Vec<_> = files.iter().map(File::as_raw_fd).collect();
        for length in 0..=files.len() {
            let came: Vec<_> = filled(length).into_fds().iter().map(number).collect();
            assert_eq!(Some(&*came), numbers.get(..length));
            for left in 0..length {
                let fds = filled(length);
                fds.truncate(left);
                assert_eq!(fds.push(last.as_fd()), left);
                let row = fds.into_row();
                let kept: Vec<_> = row.iter().take(left).map(number).collect();
                assert_eq!((Some(&*kept), row.len()), (numbers.get(..left), left + 1));
            }
        }
    }
}
