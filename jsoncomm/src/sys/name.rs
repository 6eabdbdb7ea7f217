//! Names of unix sockets as the kernel has them: the content of `sun_path` and its length ([unix(7)]).
//!
//! [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Size of `sun_path` in bytes.
const SUN_PATH: usize = 108;

/// Longest path that fits with its closing NUL, in bytes. The kernel also binds 108 bytes, but then reports a length
/// that other programs do not expect, so that is refused.
pub(crate) const PATH_MAX: usize = SUN_PATH - 1;

/// A socket's name: none, an abstract name, or a path. Compared byte by byte.
///
/// Its layout begins as `struct sockaddr_un`, so the kernel can read and write it in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Name {
    family: u16,
    /// `sun_path`; zeroes after its end.
    bytes: [u8; SUN_PATH],
    length: u8,
}

/// `AF_UNIX`
const FAMILY: u16 = 1;

/// Size of `sun_family`, which precedes `sun_path`.
const FAMILY_SIZE: u8 = 2;

impl Name {
    /// No name; also what the kernel writes a name into.
    pub(crate) const NONE: Self = Self {
        family: FAMILY,
        bytes: [0; SUN_PATH],
        length: 0,
    };

    /// Size of an address, `sizeof(struct sockaddr_un)`.
    pub(super) const ROOM: u32 = 110;

    /// Makes the name of a path; `None` if it is empty, too long or contains NUL.
    pub(crate) fn from_path(path: &OsStr) -> Option<Self> {
        let bytes = path.as_bytes();
        if bytes.contains(&0) {
            return None;
        }
        Self::from_sun_path(bytes)
    }

    /// Makes an abstract name of 1 to 107 bytes, without the leading NUL.
    pub(crate) fn from_abstract(name: &[u8]) -> Option<Self> {
        if name.is_empty() {
            return None;
        }
        Self::from_sun_path(&[&[0], name].concat())
    }

    /// Makes a name from the content of `sun_path`; `None` if that is empty or too long.
    pub(crate) fn from_sun_path(path: &[u8]) -> Option<Self> {
        let mut name = Self::NONE;
        name.bytes.get_mut(..path.len())?.copy_from_slice(path);
        let length = u32::try_from(path.len()).ok()?;
        name.set_address_length(u32::from(FAMILY_SIZE) + length);
        (!name.is_unnamed()).then_some(name)
    }

    /// Sets the length of the address that the kernel has written into [`NONE`](Self::NONE). The name stays unnamed if
    /// the address is none, or too long to be handled safely: the kernel reports a 108-byte path with length 111.
    pub(super) fn set_address_length(&mut self, length: u32) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let length = length.saturating_sub(usize::from(FAMILY_SIZE));
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

    /// Returns the length of the address in bytes, with the NUL that closes a path.
    pub(super) fn address_length(&self) -> u32 {
        let closing_nul = u32::from(self.path().is_some());
        u32::from(FAMILY_SIZE) + u32::from(self.length) + closing_nul
    }

    /// Returns the content of `sun_path`.
    pub(crate) fn sun_path(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// Returns true if this is no name.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.length == 0
    }

    /// Returns true if the name belongs to the network namespace instead of a file system.
    pub(crate) fn is_abstract(&self) -> bool {
        self.sun_path().first() == Some(&0)
    }

    /// Returns the abstract name without its leading NUL.
    pub(crate) fn abstract_name(&self) -> Option<&[u8]> {
        self.sun_path().strip_prefix(&[0])
    }

    /// Returns the path, if the name is one.
    pub(crate) fn path(&self) -> Option<&OsStr> {
        let path = self.sun_path();
        (path.first()? != &0).then(|| OsStr::from_bytes(path))
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::NONE
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
    fn an_address_that_cannot_be_handled_is_no_name() {
        let mut name = Name {
            bytes: [b'p'; SUN_PATH],
            ..Name::NONE
        };
        for length in [0, 1, 2, 110, 111, u32::MAX] {
            name.set_address_length(length);
            assert!(name.is_unnamed(), "{length}");
        }
        name.bytes[107] = 0;
        name.set_address_length(110);
        assert_eq!((name.sun_path().len(), name.address_length()), (107, 110));
    }

    #[test]
    fn a_path_ends_at_its_first_nul() {
        let name = Name::from_sun_path(b"/run/x\0\0\0").unwrap();
        assert_eq!(name.path(), Some(OsStr::new("/run/x")));
    }
}
