//! The list that descriptors are written to, and what hands it to serde.

use super::PackPart;
use crate::limits::Depth;
use serde::ser::Error;
use serde::{Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::os::fd::BorrowedFd;

/// The descriptors of a message that is being written, in order; borrowed for `'a` from the message.
///
/// A descriptor's position here is its index in the JSON. Allocates with the fifth descriptor.
#[derive(Debug)]
pub struct Packer<'a> {
    fds: RefCell<Row<'a>>,
    depth: Cell<Depth>,
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

    /// The same for a message that may be so deep.
    pub(crate) const fn at_depth(depth: Depth) -> Self {
        Self {
            fds: RefCell::new(Row::Empty),
            depth: Cell::new(depth),
        }
    }

    /// Counts arrays and objects that are open around what is written from now on.
    pub(crate) fn open(&self, levels: u8) {
        self.depth.set(self.depth().inside(levels));
    }

    /// How deep what is written from now on may be.
    pub(crate) fn depth(&self) -> Depth {
        self.depth.get()
    }

    /// Appends `fd` and returns its index, which is what the JSON says in its place.
    pub fn push(&self, fd: BorrowedFd<'a>) -> usize {
        let mut fds = self.fds.borrow_mut();
        fds.push(fd);
        fds.len() - 1
    }

    /// Counts the descriptors so far.
    pub fn len(&self) -> usize {
        self.fds.borrow().len()
    }

    /// Says whether no descriptor has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the list back, in order.
    pub fn into_fds(self) -> Vec<BorrowedFd<'a>> {
        self.into_row().to_vec()
    }

    /// The same for who only looks at it.
    pub(crate) fn into_row(self) -> Row<'a> {
        self.fds.into_inner()
    }

    /// Forgets all but the first `count`.
    pub(super) fn truncate(&self, count: usize) {
        self.fds.borrow_mut().truncate(count);
    }
}

/// So many descriptors are where the row is; more are elsewhere.
const FEW: usize = 4;

/// Borrowed descriptors side by side.
#[derive(Debug)]
pub(crate) enum Row<'a> {
    Empty,
    /// So many of these; the others are there for want of nothing to put in their places.
    Few([BorrowedFd<'a>; FEW], usize),
    Many(Vec<BorrowedFd<'a>>),
}

impl<'a> Row<'a> {
    fn push(&mut self, fd: BorrowedFd<'a>) {
        match self {
            Self::Empty => *self = Self::Few([fd; FEW], 1),
            Self::Few(few, count) => match few.get_mut(*count) {
                Some(place) => {
                    *place = fd;
                    *count += 1;
                }
                None => *self = Self::Many([few.as_slice(), &[fd]].concat()),
            },
            Self::Many(many) => many.push(fd),
        }
    }

    fn truncate(&mut self, length: usize) {
        match self {
            Self::Empty => {}
            Self::Few(_, count) => *count = length.min(*count),
            Self::Many(many) => many.truncate(length),
        }
    }
}

impl<'a> Deref for Row<'a> {
    type Target = [BorrowedFd<'a>];

    fn deref(&self) -> &[BorrowedFd<'a>] {
        match self {
            Self::Empty => &[],
            Self::Few(few, count) => few.get(..*count).unwrap_or_default(),
            Self::Many(many) => many,
        }
    }
}

/// A message with the list its descriptors go to: what serde's collections can be given.
#[doc(hidden)]
#[derive(Debug)]
pub struct Packed<'p, 'a, T: ?Sized> {
    value: &'a T,
    fds: &'p Packer<'a>,
}

impl<'p, 'a, T: ?Sized> Packed<'p, 'a, T> {
    pub fn new(value: &'a T, fds: &'p Packer<'a>) -> Self {
        Self { value, fds }
    }
}

impl<T: PackPart + ?Sized> Serialize for Packed<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.pack_part(self.fds, serializer)
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

/// An enum whose variants' contents can be written by themselves; `{}` for a unit variant.
#[doc(hidden)]
pub trait PackContent {
    fn pack_content<'a, S: Serializer>(
        &'a self,
        fds: &Packer<'a>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>;
}

/// As [`Packed`], for what an enum's variant holds.
#[doc(hidden)]
#[derive(Debug)]
pub struct ContentOf<'p, 'a, T> {
    value: &'a T,
    fds: &'p Packer<'a>,
}

impl<'p, 'a, T> ContentOf<'p, 'a, T> {
    pub fn new(value: &'a T, fds: &'p Packer<'a>) -> Self {
        Self { value, fds }
    }
}

impl<T: PackContent> Serialize for ContentOf<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.pack_content(self.fds, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_row_has_what_was_put_there_few_or_many() {
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
