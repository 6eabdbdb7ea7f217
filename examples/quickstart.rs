//! The main job in one command: a client without privileges reads a file through a descriptor that a server opened for
//! it, and gets a typed error and a fault.
//!
//! Run it with `cargo run --example quickstart`, or with a path: `cargo run --example quickstart -- FILE`.
//! The file's folder is then served. The service itself is in `examples/lib.rs`.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jsoncomm::{CallError, Connection, Kind, Limits, Server};
use jsoncomm_examples::{Files, FilesClient, FilesError, Folder};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "--serve" => {
            let (folder, socket) = (arguments.next(), arguments.next());
            serve(
                folder.ok_or("no folder")?.as_ref(),
                socket.ok_or("no socket")?.as_ref(),
            )
        }
        first => client(&first.map_or_else(readme, PathBuf::from)),
    }
}

/// The server: binds a socket, prints a line, and serves `folder` until its standard input is closed.
fn serve(folder: &Path, socket: &Path) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Limits::default())?;
    server.bind(socket, Kind::Seqpacket)?.serve::<dyn Files>();
    let parent = io::stdin().as_fd().try_clone_to_owned()?;
    server.watch(parent, |_, control| control.stop())?;
    writeln!(io::stdout(), "ready")?;
    server.run(&mut Folder::new(folder)?)?;
    Ok(())
}

/// The client: starts the server, drops its privileges, and calls it.
fn client(path: &Path) -> Result<(), Box<dyn Error>> {
    let path = path.canonicalize()?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err("the path names no file".into());
    };
    let name = name.to_str().ok_or("the file's name is not UTF-8")?;
    let socket = env::temp_dir().join(format!("quickstart-{}.sock", std::process::id()));
    let mut server = start(folder, &socket)?;
    let files = FilesClient::new(Connection::open(&socket)?);
    let mut out = io::stdout();
    writeln!(
        out,
        "The server (process {}) may read {}",
        server.id(),
        folder.display()
    )?;
    writeln!(
        out,
        "The client (process {}) {}\n",
        std::process::id(),
        drop_rights()
    )?;

    let opened = files.open(name)?;
    let mut reader = BufReader::new(File::from(opened.file));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    writeln!(
        out,
        "open {name:?}: here is the descriptor, read through it"
    )?;
    writeln!(out, "    first line  {}", line.trim_end())?;
    let rest = io::copy(&mut reader, &mut io::sink())?;
    writeln!(
        out,
        "    size        {} bytes, announced {}\n",
        rest + line.len() as u64,
        opened.len
    )?;

    for path in ["not-there.txt", "../etc/passwd", "/etc/passwd"] {
        match files.open(path) {
            Err(CallError::Service(error @ FilesError::NotFound { .. })) => {
                writeln!(out, "open {path:?}: a typed error, {error}")?;
            }
            Err(CallError::Service(error @ FilesError::Denied { .. })) => {
                writeln!(out, "open {path:?}: refused, {error}")?;
            }
            Err(other) => return Err(other.into()),
            Ok(_) => return Err(format!("{path} should not have been opened").into()),
        }
    }
    drop(server.stdin.take()); // the server stops and removes its socket
    server
        .wait()?
        .success()
        .then_some(())
        .ok_or("the server failed")?;
    Ok(())
}

/// Starts this program again as the server, and waits until it is ready.
fn start(folder: &Path, socket: &Path) -> Result<Child, Box<dyn Error>> {
    let mut server = Command::new(env::current_exe()?)
        .arg("--serve")
        .args([folder, socket])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    let stdout = server.stdout.take().ok_or("no pipe")?;
    BufReader::new(stdout).read_line(&mut ready)?;
    match ready.trim_end() {
        "ready" => Ok(server),
        _ => Err("the server did not start".into()),
    }
}

/// Drops privileges to the user `nobody` if this process is root; returns what it runs as now.
fn drop_rights() -> &'static str {
    use rustix::process::{Gid, Uid};
    let (nobody, nogroup) = (Uid::from_raw(65534), Gid::from_raw(65534));
    // This process has one thread, so these are the privileges of the whole process.
    let dropped = rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(nogroup, nogroup, nogroup))
        .and_then(|()| rustix::thread::set_thread_res_uid(nobody, nobody, nobody));
    match dropped {
        Ok(()) => "was root and is nobody now",
        Err(_) => "has no rights to give up",
    }
}

/// The default: this project's own README.md.
fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}
