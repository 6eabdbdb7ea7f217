//! Files on the command line: those to pass, and those to copy received content to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jsoncomm::message::RawMessage;
use rustix::fs::access;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::args::{Access, Lend, Save, Spot};
use crate::deadline::Deadline;
use crate::field::Field;
use crate::json::Json;
use crate::problem::Problem;
use crate::standard;

/// Inherited descriptors are moved to numbers from here on, which leaves the low numbers to a program that is started.
const ABOVE: i32 = 512;

/// Duplicates an inherited descriptor; may be called repeatedly.
pub(crate) fn inherited(number: i32) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<BTreeMap<i32, OwnedFd>> = Mutex::new(BTreeMap::new());
    if let Ok(number @ 0..=2) = usize::try_from(number) {
        return standard::duplicate(number);
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // With a lower limit of open files they get any free number.
    let copy =
        |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, ABOVE).or_else(|_| fcntl_dupfd_cloexec(fd, 3));
    if let Some(fd) = taken.get(&number) {
        return Ok(copy(fd)?);
    }
    let fd = jsoncomm::fds::inherited_fd(number)?;
    let fd = fcntl_dupfd_cloexec(&fd, ABOVE).unwrap_or(fd);
    let copy = copy(&fd);
    taken.insert(number, fd);
    Ok(copy?)
}

/// Opens a file to pass.
pub(crate) fn open(lend: &Lend, deadline: Deadline) -> Result<OwnedFd, Problem> {
    let access = lend.access;
    match lend.file.clone() {
        Spot::Standard => standard::duplicate(0).map_err(Problem::file("standard input")),
        Spot::Inherited(number) => inherited(number).map_err(Problem::inherited(number)),
        // Opening a FIFO waits for its other end, and connecting a socket for its server.
        Spot::Path(path) => deadline.wait_for(move || {
            let opened = open_path(&path, access);
            opened.map_err(Problem::file(path))
        }),
    }
}

fn open_path(path: &Path, access: Access) -> io::Result<OwnedFd> {
    if fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return connect_to(path);
    }
    let file = match access {
        Access::Reading => File::open(path),
        Access::Both => OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path),
    };
    Ok(file?.into())
}

/// Connects to a socket of any type.
fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let mut refused = Errno::PROTOTYPE;
    for sort in [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM] {
        let socket = socket_with(AddressFamily::UNIX, sort, SocketFlags::CLOEXEC, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::PROTOTYPE) => {}
            Err(error) => {
                refused = error;
                break;
            }
        }
    }
    Err(refused.into())
}

/// Finds a program as execvp(3) does, to report a missing one before anything is done.
pub(crate) fn find_program(name: &OsStr) -> Result<(), Problem> {
    let is_program = |path: &Path| {
        let executable = access(path, rustix::fs::Access::EXEC_OK).is_ok();
        executable && path.is_file()
    };
    // The C library's default.
    let paths = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut paths = std::env::split_paths(&paths);
    let found = if name.as_encoded_bytes().contains(&b'/') {
        is_program(Path::new(name))
    } else {
        paths.any(|path| is_program(&path.join(name)))
    };
    if found {
        return Ok(());
    }
    Err(Problem::NoProgram(PathBuf::from(name)))
}

/// An open file to copy the content of a descriptor to.
#[derive(Debug)]
pub(crate) struct Target {
    field: Field,
    to: OwnedFd,
    /// Its name; `None` for standard output.
    path: Option<PathBuf>,
    /// It was created by us, and is removed if the copy fails.
    made: bool,
}

impl Target {
    /// Opens it without changing its content.
    pub(crate) fn open(save: &Save, deadline: Deadline) -> Result<Self, Problem> {
        let field = save.field.clone();
        let (to, path, made) = match save.file.clone() {
            Spot::Standard => {
                standard::check_output()?;
                let to = standard::duplicate(1).map_err(Problem::Output)?;
                (to, None, false)
            }
            Spot::Inherited(number) => {
                let to = inherited(number).map_err(Problem::inherited(number))?;
                standard::check_writable(to.as_fd()).map_err(Problem::inherited(number))?;
                (to, Some(PathBuf::from(format!("fd:{number}"))), false)
            }
            Spot::Path(path) => deadline.wait_for(move || match open_to_write(&path) {
                Ok((file, made)) => Ok((file.into(), Some(path), made)),
                Err(error) => Err(Problem::file(path)(error)),
            })?,
        };
        Ok(Self {
            field,
            to,
            path,
            made,
        })
    }

    /// Copies the content of the reply's descriptor.
    pub(crate) fn fill(mut self, reply: &mut RawMessage) -> Result<(), Problem> {
        let from = self.find(reply)?;
        let file = File::from(self.to.try_clone().map_err(Problem::here("dup"))?);
        if self.path.is_some() && file.metadata().is_ok_and(|file| file.is_file()) {
            file.set_len(0).map_err(|error| self.blame(error))?;
        }
        let mut bytes = vec![0; 1 << 16];
        loop {
            let unreadable = |source| Problem::Unreadable {
                field: self.field.clone(),
                source,
            };
            let count = standard::read(&from, &mut bytes).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            let part = bytes.get(..count).unwrap_or_default();
            standard::write(self.to.as_fd(), part).map_err(|error| self.blame(error))?;
        }
        self.made = false;
        Ok(())
    }

    /// Takes the descriptor out of the reply.
    fn find(&self, reply: &mut RawMessage) -> Result<OwnedFd, Problem> {
        let json = Json::parse(&reply.json).ok();
        let index = json
            .as_ref()
            .and_then(|json| json.at(&self.field).and_then(Json::index));
        let fd = index.and_then(|index| reply.fds.take(index));
        fd.ok_or_else(|| Problem::NotThere(self.field.clone()))
    }

    /// Returns the error that it is not open for writing.
    fn blame(&self, error: io::Error) -> Problem {
        match &self.path {
            Some(path) => Problem::file(path)(error),
            None => Problem::Output(error),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.made) {
            // Best effort: the file that was not completed is removed.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens a file for writing; returns true if it was created.
fn open_to_write(path: &Path) -> io::Result<(File, bool)> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    match made {
        Ok(file) => Ok((file, true)),
        // A symbolic link may lead to a file that does not exist yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut options = OpenOptions::new();
            let opened = options.write(true).create(true).truncate(false).open(path);
            opened.map(|file| (file, false))
        }
        Err(error) => Err(error),
    }
}
