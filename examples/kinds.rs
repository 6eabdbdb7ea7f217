//! A service that takes only descriptors that it can use: a text that nobody can change any more, and a folder to put it into. What
//! does not fit is refused twice, by the client's stub and by the server.
//!
//! Run it with `cargo run --example kinds`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jsoncomm::message::Json;
use jsoncomm::{CallError, Connection, Limits, Message, Server};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::PipeFlags;

/// Keeps texts in folders of its clients.
#[jsoncomm::service(name = "example.archive")]
trait Archive {
    /// Writes `text` to a file in `folder`, and returns its length. Only a sealed text is the same when it is read again.
    fn keep(
        &mut self,
        #[fd(memfd(sealed), read)] text: File,
        #[fd(directory, path)] folder: OwnedFd,
    ) -> Result<u64, String>;
}

struct Keeper;

impl Archive for Keeper {
    fn keep(&mut self, text: File, folder: OwnedFd) -> Result<u64, String> {
        let copy = || -> io::Result<u64> {
            let length = text.metadata()?.len();
            let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            text.read_exact_at(&mut content, 0)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(&folder, "kept.txt", flags, Mode::RUSR | Mode::WUSR)?;
            File::from(file).write_all(&content)?;
            Ok(length)
        };
        copy().map_err(|error| error.to_string())
    }
}

/// The arguments without their kinds, as a client in another language would send them.
#[derive(Debug, Message)]
struct Unchecked<'a> {
    #[fd]
    text: BorrowedFd<'a>,
    #[fd]
    folder: BorrowedFd<'a>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (server_end, client_end) = socketpair(unix, seqpacket, SocketFlags::CLOEXEC, None)?;
    let mut server = Server::new(Limits::default())?;
    server.adopt(server_end)?.serve::<dyn Archive>();
    let handle = server.handle();
    let thread = std::thread::spawn(move || server.run(&mut Keeper));
    let directory = std::env::temp_dir().join(format!("kinds-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let ended = client(Connection::from_fd(client_end)?, &directory);
    std::fs::remove_dir_all(&directory)?;
    handle.stop();
    thread.join().map_err(|_| "the server panicked")??;
    ended
}

fn client(connection: Connection, directory: &Path) -> Result<(), Box<dyn Error>> {
    let archive = ArchiveClient::new(connection.clone());
    let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(directory, open, Mode::empty())?;
    let mut out = io::stdout();

    let text = memfd_create("text", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    File::from(text.try_clone()?).write_all(b"as it is now\n")?;
    match archive.keep(&text, &folder) {
        Err(CallError::NotSent(error)) => writeln!(out, "not sent: {error}")?,
        other => return Err(format!("a text that can change is taken: {other:?}").into()),
    }

    fcntl_add_seals(
        &text,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    writeln!(out, "kept: {} bytes", archive.keep(&text, &folder)?)?;

    let (reader, _writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let arguments = Unchecked {
        text: reader.as_fd(),
        folder: folder.as_fd(),
    };
    let refused = connection.call::<Json<u64>, String>("example.archive.keep", &arguments);
    match refused {
        Err(CallError::Fault(fault)) => writeln!(out, "refused: {fault}")?,
        other => return Err(format!("a pipe is taken: {other:?}").into()),
    }
    Ok(())
}
