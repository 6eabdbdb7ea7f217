//! The service `example.files` that the examples share: a daemon opens files below one folder for clients that may not,
//! and passes the open descriptor.
//!
//! A client needs only the trait. [`Folder`] implements it for a daemon.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use jsoncomm::Message;
use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens, lists and stores files below one folder.
#[jsoncomm::service(name = "example.files")]
pub trait Files {
    /// Opens the file `path` for reading; the descriptor travels in the reply.
    ///
    /// # Errors
    ///
    /// All of [`FilesError`] except `TooLarge`.
    fn open(&mut self, path: &str) -> Result<Opened, FilesError>;
    /// Returns the sorted names of the files in the folder, not of those in folders below it.
    ///
    /// # Errors
    ///
    /// [`FilesError::Failed`] when the folder cannot be read.
    fn list(&mut self) -> Result<Vec<String>, FilesError>;
    /// Stores what can be read from `content` as the file `path`, which is replaced atomically.
    ///
    /// # Errors
    ///
    /// All of [`FilesError`]; the file is unchanged then.
    fn put(&mut self, path: &str, #[fd] content: OwnedFd) -> Result<Put, FilesError>;
}

/// An open file.
#[derive(Debug, Message)]
pub struct Opened {
    /// Its length in bytes.
    pub len: u64,
    /// The file, open for reading, at its beginning.
    #[fd]
    pub file: OwnedFd,
}

/// The result of storing a file.
#[derive(Debug, Message)]
pub struct Put {
    /// The length in bytes.
    pub len: u64,
}

/// Why a file was not served.
#[derive(Debug, Message, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// There is no such file.
    #[error("no file {path}")]
    NotFound {
        /// The requested path.
        path: String,
    },
    /// The path leads out of the folder, or to a file that may not be read.
    #[error("not allowed: {path}")]
    Denied {
        /// The requested path.
        path: String,
    },
    /// The file is not a regular one. Reading any other could block the daemon.
    #[error("not a plain file: {path}")]
    NotAFile {
        /// The requested path.
        path: String,
    },
    /// The content is longer than the daemon stores.
    #[error("content exceeds {limit} bytes")]
    TooLarge {
        /// The largest content in bytes.
        limit: u64,
    },
    /// The file system failed.
    #[error("{reason}")]
    Failed {
        /// The error that it reported.
        reason: String,
    },
}

impl FilesError {
    /// Maps an error of the kernel about `path` to a variant.
    fn of(error: io::Error, path: &str) -> Self {
        let path = path.to_owned();
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound { path },
            // EXDEV: `..`, an absolute path or a symbolic link that leads out, see openat2(2).
            Some(Errno::XDEV | Errno::ACCESS | Errno::PERM | Errno::LOOP) => Self::Denied { path },
            Some(Errno::ISDIR | Errno::NXIO) => Self::NotAFile { path },
            _ => Self::Failed {
                reason: error.to_string(),
            },
        }
    }
}

/// A folder that is served. It is held by its descriptor, so renaming it changes nothing.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
}

/// The largest content that [`Files::put`] stores, in bytes.
const PUT_MAX: u64 = 64 << 20;

impl Folder {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    ///
    /// The error of opening it, for example that there is no such folder.
    pub fn new(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// Opens a path below the folder, never outside it, and never blocking (`O_NONBLOCK`: opening a named pipe would
    /// wait for its other end).
    fn beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd, FilesError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        fs::openat2(
            &self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH,
        )
        .map_err(|error| FilesError::of(error.into(), path))
    }

    /// Writes `content` into a new file and renames it, so that no reader sees half of it.
    fn store(&self, path: &str, content: &mut impl Read) -> Result<u64, FilesError> {
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (parent, name),
            None => (".", path),
        };
        if matches!(name, "" | "." | "..") {
            return Err(FilesError::Denied { path: path.into() });
        }
        let failed = |error: Errno| FilesError::of(error.into(), path);
        let parent = self.beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let fresh = format!(".{}.put", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = fs::openat(&parent, &*fresh, flags | OFlags::CLOEXEC, Mode::from(0o644))
            .map_err(failed)?;
        let mut file = File::from(file);
        let stored = io::copy(&mut content.take(PUT_MAX + 1), &mut file)
            .map_err(|error| FilesError::of(error, path))
            .and_then(|len| match len {
                0..=PUT_MAX => Ok(len),
                _ => Err(FilesError::TooLarge { limit: PUT_MAX }),
            })
            .and_then(|len| {
                fs::renameat(&parent, &*fresh, &parent, name).map_err(failed)?;
                Ok(len)
            });
        if stored.is_err() {
            let _ = fs::unlinkat(&parent, &*fresh, fs::AtFlags::empty());
        }
        stored
    }
}

/// Returns true if reading the file cannot block on another process: a regular file of a local file system.
fn is_plain(file: &OwnedFd) -> bool {
    /// FUSE, NFS, CIFS and SMB2 (include/uapi/linux/magic.h), where another program decides when a read completes.
    const ELSEWHERE: [fs::FsWord; 4] = [0x6573_5546, 0x6969, CIFS, SMB2];
    // Negative where the kernel's word has 32 bits.
    const CIFS: fs::FsWord = 0xFF53_4D42_u32 as fs::FsWord;
    const SMB2: fs::FsWord = 0xFE53_4D42_u32 as fs::FsWord;
    let regular = fs::fstat(file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    regular && fs::fstatfs(file).is_ok_and(|stat| !ELSEWHERE.contains(&stat.f_type))
}

impl Files for Folder {
    fn open(&mut self, path: &str) -> Result<Opened, FilesError> {
        let file = self.beneath(path, OFlags::RDONLY)?;
        if !is_plain(&file) {
            return Err(FilesError::NotAFile { path: path.into() });
        }
        let stat = fs::fstat(&file).map_err(|error| FilesError::of(error.into(), path))?;
        Ok(Opened {
            len: u64::try_from(stat.st_size).unwrap_or(0),
            file,
        })
    }

    fn list(&mut self) -> Result<Vec<String>, FilesError> {
        let failed = |error: Errno| FilesError::of(error.into(), ".");
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == FileType::RegularFile && !name.starts_with('.') {
                names.push(name.into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn put(&mut self, path: &str, content: OwnedFd) -> Result<Put, FilesError> {
        if !is_plain(&content) {
            return Err(FilesError::NotAFile {
                path: "content".into(),
            });
        }
        let len = self.store(path, &mut File::from(content))?;
        Ok(Put { len })
    }
}
