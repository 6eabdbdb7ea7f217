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
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    length: u8,
    bytes: [u8; SUN_PATH],
}

impl Name {
    /// Takes what the kernel wrote to `sun_path`. `None` when it is too long to be handled safely.
    pub(crate) fn from_sun_path(bytes: &[u8]) -> Option<Self> {
        let path = match bytes.first() {
            Some(0) => bytes,
            _ => bytes.split(|byte| *byte == 0).next().unwrap_or_default(),
        };
        let mut name = Self {
            length: u8::try_from(path.len()).ok()?,
            bytes: [0; SUN_PATH],
        };
        name.bytes.get_mut(..path.len())?.copy_from_slice(path);
        (name.is_abstract() || path.len() <= PATH_MAX).then_some(name)
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

    /// Says whether the socket has no name, so that nothing can be sent to it by name.
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
    fn a_path_ends_at_its_first_nul() {
        let name = Name::from_sun_path(b"/run/x\0\0\0").unwrap();
        assert_eq!(name.path(), Some(OsStr::new("/run/x")));
    }
}
