//! Descriptors across execve(2): taken over from the program that started this one, and passed to one that is started.

use std::io::{self, Error, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::Command;

use crate::sys::control::{self, Numbered, take_number};
use crate::sys::file::{self, STDERR};

/// Takes over a descriptor that this process was started with, by its number.
///
/// Use it for a socket from a service manager, or from the program that called execve(2). The result owns the descriptor:
/// dropping it closes it, and the peer of a connection sees end of file. It is made close-on-exec, so that programs started
/// later do not inherit it. The only system call is [fcntl(2)].
///
/// A descriptor that is close-on-exec already is refused: this process opened it (Rust opens all descriptors so), or it
/// has been taken over before, by this function or by sd_listen_fds(3). Read `LISTEN_FDS` instead of calling that.
///
/// # What the caller has to ensure
///
/// No code of this process owns a descriptor of that number without `FD_CLOEXEC`, as a C library
/// may. Call this early, before such code runs, and only with numbers that the starting program has named, as `LISTEN_FDS`
/// does.
///
/// # Errors
///
/// | kind | cause |
/// |---|---|
/// | [`InvalidInput`](ErrorKind::InvalidInput) | the number is below 3: 0 to 2 are the standard streams |
/// | [`NotFound`](ErrorKind::NotFound) | the number is not open |
/// | [`AlreadyExists`](ErrorKind::AlreadyExists) | the descriptor is close-on-exec already |
///
/// The text names the number and the reason. The descriptor is unchanged.
///
/// # Examples
///
/// ```
/// use jsoncomm::fds::inherited_fd;
/// use jsoncomm::{Limits, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// if std::env::var("LISTEN_PID").is_ok_and(|id| id == std::process::id().to_string()) {
///     let mut server: Server<()> = Server::new(Limits::default())?;
///     server.adopt(inherited_fd(3)?)?; // sd_listen_fds(3)
/// }
/// assert!(inherited_fd(2).is_err());
/// # Ok(())
/// # }
/// ```
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
#[doc(alias = "LISTEN_FDS")]
#[doc(alias = "from_raw_fd")]
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    let error = |kind, reason: &str| Error::new(kind, format!("descriptor {number} {reason}"));
    if number <= STDERR {
        let reason = "is not taken over: 0 to 2 are the standard streams";
        return Err(error(ErrorKind::InvalidInput, reason));
    }
    match take_number(number, |_| true) {
        Ok(Numbered::Inherited(fd)) => Ok(fd),
        Ok(Numbered::CloseOnExec) => {
            let reason = "is close-on-exec: it was not inherited, or has been taken over already";
            Err(error(ErrorKind::AlreadyExists, reason))
        }
        Ok(Numbered::Closed | Numbered::Refused) => Err(error(ErrorKind::NotFound, "is not open")),
        Err(cause) => {
            let reason = format!("cannot be taken over: {cause}");
            Err(error(cause.kind(), &reason))
        }
    }
}

/// Makes the programs that a command starts inherit a descriptor, and returns its number there: 3 or more.
///
/// That is its number in this process, unless it is below 3, which would be a standard stream. Tell it to the program, in an
/// argument or an environment variable; the program takes it over with [`inherited_fd`]. The command owns the descriptor: it
/// is closed here when the command is dropped. Does not wait.
///
/// The descriptor is and stays close-on-exec in this process. Only the new process clears that flag, between fork(2) and
/// execve(2), so no program that another thread starts at the same time inherits it. A `pre_exec` function of the command
/// must leave the number alone. [`CommandExt::exec`](std::os::unix::process::CommandExt::exec), which replaces this process,
/// passes it on too; if that fails, the flag is cleared here.
///
/// # Errors
///
/// What [fcntl(2)] reports: descriptors have run out, or a sandbox forbids the call. The descriptor is closed, and the
/// command is unchanged.
///
/// # Examples
///
/// ```
/// use jsoncomm::fds::inherit;
/// use std::fs::File;
/// use std::process::Command;
///
/// let mut command = Command::new("sh");
/// let number = inherit(&mut command, File::open("/dev/null")?.into())?;
/// command.args(["-c", &format!("cat /dev/fd/{number}")]);
/// assert!(command.status()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
#[doc(alias = "pre_exec")]
#[doc(alias = "FD_CLOEXEC")]
pub fn inherit(command: &mut Command, fd: OwnedFd) -> io::Result<RawFd> {
    let fd = if fd.as_raw_fd() <= STDERR {
        file::duplicate(fd.as_fd())?
    } else {
        file::set_cloexec(fd.as_fd())?;
        fd
    };
    let number = fd.as_raw_fd();
    control::inherit(command, fd);
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    /// The number of a duplicate that is open across execve(2), as an inherited descriptor is.
    fn bare_number(fd: impl AsFd) -> RawFd {
        std::mem::ManuallyDrop::new(rustix::io::dup(fd).unwrap()).as_raw_fd()
    }

    fn kind(number: RawFd) -> ErrorKind {
        inherited_fd(number).unwrap_err().kind()
    }

    #[test]
    fn an_inherited_descriptor_is_taken_over_once_and_closed_when_dropped() {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = bare_number(&far);
        drop(far);
        let fd = inherited_fd(number).unwrap();
        assert_eq!(fd.as_raw_fd(), number);
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(kind(number), ErrorKind::AlreadyExists);
        near.write_all(b"x").unwrap();
        let mut far = File::from(fd);
        far.read_exact(&mut [0]).unwrap();
        drop(far);
        assert_eq!(near.read(&mut [0]).unwrap(), 0, "end of file at once");
    }

    #[test]
    fn a_descriptor_that_was_not_inherited_is_refused() {
        let own = File::open("/dev/null").unwrap();
        assert_eq!(kind(own.as_raw_fd()), ErrorKind::AlreadyExists);
        for stream in [-1, 0, 2] {
            assert_eq!(kind(stream), ErrorKind::InvalidInput);
        }
        assert_eq!(kind(RawFd::MAX), ErrorKind::NotFound);
        let text = inherited_fd(RawFd::MAX).unwrap_err().to_string();
        assert_eq!(text, "descriptor 2147483647 is not open");
    }

    #[test]
    fn only_one_of_several_threads_takes_over_a_descriptor() {
        let null = File::open("/dev/null").unwrap();
        for _ in 0..50 {
            let number = bare_number(&null);
            let threads = [(); 4].map(|()| std::thread::spawn(move || inherited_fd(number)));
            // Kept open until all threads have tried: a closed number may be reused.
            let taken = threads.map(|thread| thread.join().unwrap());
            assert_eq!(taken.iter().filter(|fd| fd.is_ok()).count(), 1);
        }
    }

    #[cfg(repository)]
    #[test]
    fn a_descriptor_to_inherit_stays_close_on_exec_and_only_that_program_has_it() {
        jsoncomm_watchdog::needs_proc!();
        let is_cloexec = |number: RawFd| {
            let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
            let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
            Some(flags & rustix::fs::OFlags::CLOEXEC.bits() != 0)
        };
        let plain = rustix::io::dup(File::open("/dev/null").unwrap()).unwrap();
        let original = plain.as_raw_fd();
        let mut command = Command::new("sh");
        let number = inherit(&mut command, plain).unwrap();
        assert_eq!(number, original);
        command.args(["-c", &format!("test -c /dev/fd/{number}")]);
        for _ in 0..2 {
            assert!(command.status().unwrap().success());
            assert_ne!(is_cloexec(number), Some(false));
        }
        let others = Command::new("sh")
            .args(["-c", &format!("test ! -e /dev/fd/{number}")])
            .status();
        assert!(others.unwrap().success(), "no other program has it");
    }
}
