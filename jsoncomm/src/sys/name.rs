//! The kernel's name of a unix socket: what `sun_path` holds, and how long it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Room in `sun_path` ([unix(7)]).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
const SUN_PATH: usize = 108;

/// Longest path that fits with its closing NUL. 108 bytes bind as well, but are then reported with a
/// length that other programs do not expect, so they are refused.
pub(crate) const PATH_MAX: usize = SUN_PATH - 1;

/// A socket's name: nothing, an abstract name, or a path; compared byte by byte.
///
/// It begins as `struct sockaddr_un` does, so that the kernel can be lent it, and can write one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Name {
    family: u16,
    /// `sun_path`; all zero behind its end.
    bytes: [u8; SUN_PATH],
    length: u8,
}

/// `AF_UNIX`
const FAMILY: u16 = 1;

/// Bytes in front of `sun_path`.
const FRONT: u8 = 2;

impl Name {
    /// Nothing: room for the kernel to write a name to.
    pub(crate) const NONE: Self = Self {
        family: FAMILY,
        bytes: [0; SUN_PATH],
        length: 0,
    };

    /// Room for an address, `sizeof(struct sockaddr_un)`.
    pub(super) const ROOM: u32 = 110;

    /// Notes that the kernel has written an address of `length` bytes to [`NONE`](Self::NONE). It stays nothing when
    /// that is no name, or too long to be handled safely: a 108-byte path is reported as 111.
    pub(super) fn written(&mut self, length: u32) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let length = length.saturating_sub(usize::from(FRONT));
        let Some(path) = self.bytes.get_mut(..length) else {
            return;
        };
        let end = match path.first() {
            None | Some(0) => length,
            Some(_) => {
                let end = path.iter().position(|byte| *byte == 0);
                let end = end.unwrap_or(length);
                path.get_mut(end..).unwrap_or_default().fill(0);
                end
            }
        };
        if end <= PATH_MAX || self.bytes.first() == Some(&0) {
            self.length = u8::try_from(end).unwrap_or(0);
        }
    }

    /// How long it is as an address, with the NUL that closes a path.
    pub(super) fn address_length(&self) -> u32 {
        let closing = u32::from(self.path().is_some());
        u32::from(FRONT) + u32::from(self.length) + closing
    }

    /// Takes what stands in `sun_path`; `None` when it is nothing or too long to be handled safely.
    fn from_sun_path(path: &[u8]) -> Option<Self> {
        let mut name = Self::NONE;
        name.bytes.get_mut(..path.len())?.copy_from_slice(path);
        let length = u32::try_from(path.len()).ok()?;
        name.written(u32::from(FRONT) + length);
        (!name.is_unnamed()).then_some(name)
    }

    /// Makes the name of a path; `None` when it is empty, too long or contains NUL.
    pub(crate) fn from_path(path: &OsStr) -> Option<Self> {
        let bytes = path.as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return None;
        }
        Self::from_sun_path(bytes)
    }

    /// Makes an abstract name of 1 to 107 bytes, without the leading NUL.
    pub(crate) fn from_abstract(name: &[u8]) -> Option<Self> {
        if name.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(name.len() + 1);
        bytes.push(0);
        bytes.extend_from_slice(name);
        Self::from_sun_path(&bytes)
    }

    /// The bytes as they stand in `sun_path`.
    pub(crate) fn sun_path(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// Says whether this is no name.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.length == 0
    }

    /// Says whether the name lives in the network namespace instead of the file system.
    pub(crate) fn is_abstract(&self) -> bool {
        self.sun_path().first() == Some(&0)
    }

    /// The abstract name without its leading NUL.
    pub(crate) fn abstract_name(&self) -> Option<&[u8]> {
        self.sun_path().strip_prefix(&[0])
    }

    /// The path, if it is one.
    pub(crate) fn path(&self) -> Option<&OsStr> {
        (!self.is_unnamed() && !self.is_abstract()).then(|| OsStr::from_bytes(self.sun_path()))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.sun_path().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_107_bytes_fits_and_one_of_108_does_not() {
        let path = |length| "p".repeat(length);
        assert!(Name::from_path(OsStr::new(&path(107))).is_some());
        assert!(Name::from_path(OsStr::new(&path(108))).is_none());
        assert!(Name::from_sun_path(path(108).as_bytes()).is_none());
        assert!(Name::from_sun_path(path(300).as_bytes()).is_none());
    }

    #[test]
    fn an_abstract_name_may_hold_any_byte() {
        let name = Name::from_abstract(b"a\0b").unwrap();
        assert_eq!(name.abstract_name(), Some(&b"a\0b"[..]));
        assert_eq!(name.path(), None);
        assert!(Name::from_abstract(&[7; 107]).is_some());
        assert!(Name::from_abstract(&[7; 108]).is_none());
        assert!(Name::from_abstract(b"").is_none());
    }

    #[test]
    fn a_name_that_cannot_be_handled_is_none() {
        let mut name = Name {
            bytes: [b'p'; SUN_PATH],
            ..Name::NONE
        };
        for length in [0, 1, 2, 110, 111, u32::MAX] {
            name.written(length);
            assert!(name.is_unnamed(), "{length}");
        }
        name.bytes[107] = 0;
        name.written(110);
        assert_eq!((name.sun_path().len(), name.address_length()), (107, 110));
    }

    #[test]
    fn a_path_ends_at_its_first_nul() {
        let name = Name::from_sun_path(b"/run/x\0\0\0").unwrap();
        assert_eq!(name.path(), Some(OsStr::new("/run/x")));
    }
}
