//! Tests without the daemon: a mock is one more implementation of the service's trait. Code that takes a service is
//! tested with the mock directly; code that calls one is tested through a socket pair, with errors that a real daemon
//! rarely returns.
//!
//! Run it with `cargo run --example mocked`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Kind, Limits, Server};
use jsoncomm_examples::{Files, FilesClient, FilesError, Opened, Put};

/// The code under test: returns the length of all files together. A file that was removed since it was listed does
/// not count.
fn total(files: &FilesClient) -> Result<u64, CallError<FilesError>> {
    let mut total = 0;
    for name in files.list()? {
        match files.open(&name) {
            Ok(opened) => total += opened.len,
            Err(CallError::Service(FilesError::NotFound { .. })) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(total)
}

/// The service under test: a relay that refuses some names.
struct Guarded<F>(F);

impl<F: Files> Files for Guarded<F> {
    fn open(&mut self, path: &str) -> Result<Opened, FilesError> {
        if path.ends_with(".key") {
            Err(FilesError::Denied { path: path.into() })
        } else {
            self.0.open(path)
        }
    }

    fn list(&mut self) -> Result<Vec<String>, FilesError> {
        let names = self.0.list()?;
        Ok(names
            .into_iter()
            .filter(|name| !name.ends_with(".key"))
            .collect())
    }

    fn put(&mut self, path: &str, content: OwnedFd) -> Result<Put, FilesError> {
        self.0.put(path, content)
    }
}

/// A mock that has no files, only the replies to give, and records its calls.
#[derive(Default)]
struct Mock {
    files: Vec<(&'static str, Option<u64>)>,
    asked: Vec<String>,
}

impl Files for Mock {
    fn open(&mut self, path: &str) -> Result<Opened, FilesError> {
        self.asked.push(path.into());
        let found = self.files.iter().find(|(name, _)| *name == path);
        let len = found.and_then(|(_, len)| *len);
        let len = len.ok_or_else(|| FilesError::NotFound { path: path.into() })?;
        let nothing = File::open("/dev/null").map_err(|error| FilesError::Failed {
            reason: error.to_string(),
        })?;
        let file = nothing.into();
        Ok(Opened { len, file })
    }

    fn list(&mut self) -> Result<Vec<String>, FilesError> {
        Ok(self
            .files
            .iter()
            .map(|(name, _)| String::from(*name))
            .collect())
    }

    fn put(&mut self, path: &str, _: OwnedFd) -> Result<Put, FilesError> {
        Err(FilesError::Denied { path: path.into() })
    }
}

/// Runs `call` with a client of what is served at the other end of a socket pair, and returns the service.
fn served<F: Files + Send + 'static, T>(
    mut files: F,
    call: impl FnOnce(&FilesClient) -> T,
) -> Result<(T, F), Box<dyn Error>> {
    let (near, far) = Socket::pair(Kind::Seqpacket)?;
    let mut server = Server::new(Limits::default())?;
    server
        .adopt(far.as_fd().try_clone_to_owned()?)?
        .serve::<dyn Files>();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run(&mut files).map(|()| files));
    let connection = Connection::from_fd(near.as_fd().try_clone_to_owned()?)?;
    let came = call(&FilesClient::new(connection));
    handle.stop();
    Ok((came, thread.join().map_err(|_| "the server panicked")??))
}

fn main() -> Result<(), Box<dyn Error>> {
    let files = vec![("a", Some(10)), ("gone", None), ("b.key", Some(5))];

    // Directly: no socket, no thread.
    let mut guarded = Guarded(Mock {
        files: files.clone(),
        ..Mock::default()
    });
    check(
        "some names are not listed",
        guarded.list()? == ["a", "gone"],
    )?;
    let denied = matches!(guarded.open("b.key"), Err(FilesError::Denied { .. }));
    check(
        "nor opened, nor passed on",
        denied && guarded.0.asked.is_empty(),
    )?;
    check(
        "others are passed on",
        guarded.open("a")?.len == 10 && guarded.0.asked == ["a"],
    )?;

    // Served: the caller has a stub and gets errors as from a daemon.
    let mock = Mock {
        files,
        ..Mock::default()
    };
    let (sum, mock) = served(mock, total)?;
    check("a file that goes meanwhile is left out", sum? == 15)?;
    check(
        "each is asked for once",
        mock.asked == ["a", "gone", "b.key"],
    )?;
    let (sum, _) = served(
        Guarded(Mock {
            files: vec![("b", Some(7))],
            ..Mock::default()
        }),
        total,
    )?;
    check("wrapped, it is served as well", sum? == 7)?;

    // A server that does not reply, and then no server.
    let (near, far) = Socket::pair(Kind::Seqpacket)?;
    let connection = Connection::from_fd(near.as_fd().try_clone_to_owned()?)?;
    let files = FilesClient::new(connection.with_timeout(Duration::from_millis(20)));
    check(
        "a call without a reply ends at its deadline",
        matches!(total(&files), Err(CallError::Deadline)),
    )?;
    drop((near, far));
    check(
        "and so is who is left",
        matches!(total(&files), Err(CallError::Closed)),
    )?;
    Ok(())
}

fn check(what: &str, holds: bool) -> Result<(), Box<dyn Error>> {
    if holds {
        Ok(writeln!(io::stdout(), "{what}")?)
    } else {
        Err(format!("this does not hold: {what}").into())
    }
}
