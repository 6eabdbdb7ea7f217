//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::address::SocketKind;
use crate::field::Field;

/// Calls, serves and watches services that speak jsoncomm.
///
/// A service answers JSON-RPC 2.0 calls on a unix socket, one JSON text and its descriptors in each datagram. An ADDRESS
/// is a path with a slash in it, an abstract name (@name), a descriptor that jsoncomm was started with (fd:N), or a
/// program to start with a connected socket as its descriptor 3 (exec:CMD). Left out, it is that of the variable
/// JSONCOMM_ADDRESS. Both kinds of socket are tried.
///
/// Standard output has the answer's JSON and nothing else: indented and coloured on a terminal, on one line
/// elsewhere, and in both its numbers and the order of its members are as they were sent. NO_COLOR is respected.
#[derive(Debug, Parser)]
#[command(name = "jsoncomm", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(Call),
    List(List),
    Describe(Describe),
    Peer(Peer),
    Serve(Serve),
    Tap(Tap),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

/// How a service is reached.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The kind of its socket; without this both are tried
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<SocketKind>,
    /// How long to wait for an answer: seconds, or 200ms, 1.5s, 2m, or none [default: 25]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Timeout>,
}

/// Calls a method and prints the answer.
#[derive(Debug, Args)]
#[command(
    override_usage = "jsoncomm call [OPTIONS] [ADDRESS] METHOD [JSON] [-- CMD...]
       jsoncomm call --bare [OPTIONS] [ADDRESS] JSON [-- CMD...]"
)]
pub(crate) struct Call {
    /// The address, the method's whole name, and its arguments: an object, or an array by position; @FILE and - (standard
    /// input) have it read. Without JSON there are none
    #[arg(value_name = "ADDRESS METHOD JSON", num_args = 1..=3, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Pass a file as the argument FIELD, opened for reading, with :rw for reading and writing (made if it is not there);
    /// - is standard input
    #[arg(long = "fd", value_name = "FIELD=PATH[:rw]")]
    pub(crate) fds: Vec<Lend>,
    /// Copy what the descriptor in the answer's FIELD gives to a file; with - to standard output, and the answer goes to
    /// standard error
    #[arg(long, value_name = "FIELD=FILE", conflicts_with_all = ["oneway", "follow"])]
    pub(crate) save: Vec<Save>,
    /// Become CMD, with the answer's descriptors from 3 on (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES); the answer goes to
    /// standard error
    #[arg(long, requires = "program", conflicts_with_all = ["oneway", "follow"])]
    pub(crate) exec: bool,
    /// Do not wait for an answer
    #[arg(long, conflicts_with = "follow")]
    pub(crate) oneway: bool,
    /// Print each item of a stream on a line of its own, until it ends; the timeout, none by default, is for each
    #[arg(long)]
    pub(crate) follow: bool,
    /// The JSON is the whole message, without envelope, and so is the answer
    #[arg(long, conflicts_with = "follow")]
    pub(crate) bare: bool,
    /// What to become with --exec
    #[arg(last = true, value_name = "CMD", requires = "exec", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<OsString>,
}

/// Lists the methods of the services at an address.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm list [OPTIONS] [ADDRESS]")]
pub(crate) struct List {
    /// Where they are
    #[arg(value_name = "ADDRESS", num_args = 0..=1, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Describes the methods of the services at an address.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm describe [OPTIONS] [ADDRESS] [METHOD]")]
pub(crate) struct Describe {
    /// Where they are, and the one to describe; without METHOD all are
    #[arg(value_name = "ADDRESS METHOD", num_args = 0..=2, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// How methods are described.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Form {
    /// Print the OpenRPC document as it came
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a typed client in Python, over the module jsoncomm of the library's examples
    #[arg(long)]
    pub(crate) python: bool,
    /// Print the service's traits and types in Rust; what has no type is a serde_json::Value
    #[arg(long)]
    pub(crate) rust: bool,
}

/// Says who answers at an address, and how much a message can hold.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm peer [OPTIONS] [ADDRESS]")]
pub(crate) struct Peer {
    /// Where it is
    #[arg(value_name = "ADDRESS", num_args = 0..=1, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Serves a method by running a program for each call.
///
/// The program gets the arguments as JSON on standard input, and the descriptors from 3 on (LISTEN_FDS). What it
/// prints on standard output is the result: JSON, or nothing for null. Its exit status, if not 0, is the code of a
/// service error, whose text is the last line of what it printed on standard error; killed by a signal it is 128
/// and the signal's number. JSONCOMM_METHOD, JSONCOMM_UID and JSONCOMM_PID say what was called, and by whom. It gets
/// SIGTERM when nobody waits for it any more. Several run at once.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm serve [OPTIONS] [ADDRESS] METHOD -- CMD...")]
pub(crate) struct Serve {
    /// Where to serve, and the method's whole name
    #[arg(value_name = "ADDRESS METHOD", num_args = 1..=2, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    /// The kind of socket
    #[arg(long, value_name = "KIND", default_value = "seqpacket")]
    pub(crate) kind: SocketKind,
    /// How many programs run at once; more calls are refused as busy
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
    /// Stop when the first call has been answered
    #[arg(long)]
    pub(crate) once: bool,
    /// What to run
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<OsString>,
}

/// Stands between clients and a service, and prints each datagram that passes.
///
/// Each line begins with the number of the client and the direction: > to the service, < to the client. Each
/// descriptor has a line that says what it is. The service sees the tap's own user and process, not the client's.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm tap [OPTIONS] LISTEN [ADDRESS]")]
pub(crate) struct Tap {
    /// Where clients connect, and where the service is
    #[arg(value_name = "LISTEN ADDRESS", num_args = 1..=2, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    /// The kind of the service's socket, and of this one; without this it is found out
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<SocketKind>,
}

/// Calls a method again and again, and says how long that takes.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm bench [OPTIONS] [ADDRESS] METHOD [JSON]")]
pub(crate) struct Bench {
    /// The address, the method's whole name, and its arguments, as for call
    #[arg(value_name = "ADDRESS METHOD JSON", num_args = 1..=3, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// How many calls to make; without this as many as there is time for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) calls: Option<u64>,
    /// How long to go on at most [default: 3, or none with --calls]
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<Timeout>,
}

/// Prints completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which
    pub(crate) shell: Shell,
}

/// Prints the manual page, or that of a command.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The command
    pub(crate) command: Option<String>,
}

/// A time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeout {
    After(Duration),
    Never,
}

/// What is written is no time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no time: write 10, 1.5s, 200ms, 2m or none")]
pub(crate) struct NoTime;

impl FromStr for Timeout {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        if text == "none" {
            return Ok(Self::Never);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let seconds = match unit {
            "" | "s" => 1.0,
            "ms" => 0.001,
            "m" => 60.0,
            _ => return Err(NoTime),
        };
        let number: f64 = number.parse().map_err(|_| NoTime)?;
        let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| NoTime)?;
        Ok(Self::After(time))
    }
}

/// A file to pass: `FIELD=PATH[:rw]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lend {
    pub(crate) field: Field,
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Reading,
    Both,
}

/// Where to copy what a descriptor gives: `FIELD=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Save {
    pub(crate) field: Field,
    pub(crate) path: PathBuf,
}

impl FromStr for Lend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, path) = pair(text)?;
        let (path, access) = match path.strip_suffix(":rw") {
            Some(path) => (path, Access::Both),
            None => (path, Access::Reading),
        };
        let path = PathBuf::from(path);
        Ok(Self {
            field,
            path,
            access,
        })
    }
}

impl FromStr for Save {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, path) = pair(text)?;
        let path = PathBuf::from(path);
        Ok(Self { field, path })
    }
}

fn pair(text: &str) -> Result<(Field, &str), String> {
    let missing = "write it as FIELD=PATH";
    let (field, path) = text.split_once('=').ok_or(missing)?;
    let field = field
        .parse()
        .map_err(|error: crate::field::NoField| error.to_string())?;
    match path {
        "" => Err(String::from(missing)),
        path => Ok((field, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_has_a_unit_or_is_seconds() {
        let after = |millis| Ok(Timeout::After(Duration::from_millis(millis)));
        for (text, time) in [
            ("10", after(10_000)),
            ("1.5s", after(1500)),
            ("200ms", after(200)),
            ("2m", after(120_000)),
            ("0", after(0)),
            ("none", Ok(Timeout::Never)),
        ] {
            assert_eq!(text.parse(), time, "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1h",
            "1.2.3",
            "1e3",
            "99999999999999999999999",
        ] {
            assert_eq!(text.parse::<Timeout>(), Err(NoTime), "{text}");
        }
    }

    #[test]
    fn a_file_is_passed_by_field_and_path() {
        let lend: Lend = "a.b=x=y:rw".parse().unwrap();
        assert_eq!(
            (lend.field.to_string(), lend.access),
            ("a.b".into(), Access::Both)
        );
        assert_eq!(lend.path, PathBuf::from("x=y"));
        let save: Save = ".=-".parse().unwrap();
        assert_eq!((save.field, save.path), (Field::default(), "-".into()));
        for bad in ["", "a", "a=", "=x", "a..b=x"] {
            assert!(bad.parse::<Lend>().is_err(), "{bad}");
        }
    }
}
