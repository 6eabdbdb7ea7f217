//! Metrics for Prometheus: what a server has done, in the text format, in a file that is replaced once in a while.
//!
//! ```text
//! cargo run --example metrics        makes some calls, and prints the file
//! ```
//!
//! The textfile collector of Prometheus's node exporter reads such files. A daemon that has a port already may serve the same
//! text there.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use jsoncomm::observe::MethodCounts;
use jsoncomm::{Connection, Kind, Limits, Server};

#[jsoncomm::service(name = "example.library")]
trait Library {
    /// Lends a book, and returns how many are left.
    fn lend(&mut self, title: &str) -> Result<u32, String>;
    /// Takes one back.
    fn take_back(&mut self, title: &str) -> u32;
}

#[derive(Default)]
struct Shelf {
    left: u32,
}

impl Library for Shelf {
    fn lend(&mut self, title: &str) -> Result<u32, String> {
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| format!("{title} is lent already"))?;
        Ok(self.left)
    }

    fn take_back(&mut self, _: &str) -> u32 {
        self.left += 1;
        self.left
    }
}

/// Writes what a server has done in Prometheus's text format.
fn metrics<S>(server: &Server<S>) -> Result<String, std::fmt::Error> {
    let (mut text, stats) = (String::new(), server.stats());
    let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, f64)]| {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for (labels, value) in rows {
            writeln!(text, "{name}{labels} {value}")?;
        }
        Ok(())
    };
    // Names of services and methods have no characters that need an escape.
    let methods = server.method_counts();
    let label =
        |service: &str, method: &str| format!("{{service=\"{service}\",method=\"{method}\"}}");
    let rows = |value: fn(&MethodCounts) -> f64| -> Vec<_> {
        let row = |one: &MethodCounts| (label(one.service, one.method), value(one));
        methods.iter().map(row).collect()
    };
    let help = "Calls that have reached their method.";
    family(
        "jsoncomm_calls_total",
        "counter",
        help,
        &rows(|one| one.calls as f64),
    )?;
    let help = "Calls that ended with a fault.";
    family(
        "jsoncomm_faults_total",
        "counter",
        help,
        &rows(|one| one.faults as f64),
    )?;
    let help = "Time in handlers.";
    let seconds = rows(|one| one.time.as_secs_f64());
    family("jsoncomm_handler_seconds_total", "counter", help, &seconds)?;
    let one = |value: usize| [(String::new(), value as f64)];
    family(
        "jsoncomm_connections",
        "gauge",
        "Open connections.",
        &one(stats.connections),
    )?;
    family(
        "jsoncomm_backlog",
        "gauge",
        "Replies that wait for their peers.",
        &one(stats.backlog),
    )?;
    Ok(text)
}

/// Replaces a file, so that a reader finds the old text or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("metrics-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let (socket, file) = (folder.join("library.sock"), folder.join("library.prom"));
    let mut server = Server::new(Limits::default())?;
    server
        .bind(&socket, Kind::Seqpacket)?
        .serve::<dyn Library>();
    server.time_handlers(true);
    let handle = server.handle();
    // A daemon writes it every 15 seconds or so, from its loop.
    let written = file.clone();
    server.every(Duration::from_millis(10), move |_: &mut Shelf, control| {
        let path = written.clone();
        control.post(move |server| {
            let text = metrics(server).unwrap_or_default();
            if let Err(error) = replace(&path, &text) {
                eprintln!("{}: {error}", path.display());
            }
        });
    })?;
    let server = std::thread::spawn(move || {
        let done = server.run(&mut Shelf { left: 1 });
        done.map(|()| server)
    });
    let library = LibraryClient::new(Connection::open(&socket)?);
    library.lend("Middlemarch")?;
    assert!(library.lend("Middlemarch").is_err());
    library.take_back("Middlemarch")?;
    handle.stop();
    let server = server.join().map_err(|_| "the server panicked")??;
    replace(&file, &metrics(&server)?)?;
    std::io::stdout().write_all(fs::read_to_string(&file)?.as_bytes())?;
    fs::remove_dir_all(folder)?;
    Ok(())
}
