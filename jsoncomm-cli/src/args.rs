//! The command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use jsoncomm::Limits;
use jsoncomm::address::{Address, Bind};

use crate::address::SocketKind;
use crate::complete::Complete;
use crate::field::Field;
use crate::services::Services;

/// Calls, serves and traces services that use jsoncomm.
///
/// A service replies to JSON-RPC 2.0 calls on a unix socket, with one JSON text and its descriptors in each datagram. An
/// ADDRESS is a path that contains a slash, an abstract name (@name), the name of a service (service:example.files; see
/// jsoncomm services), a descriptor that jsoncomm was started with (fd:N), or a program to start with a connected socket as
/// its descriptor 3 (exec:CMD), which has two seconds to end after the call. The default is the value of JSONCOMM_ADDRESS; without
/// that, call, describe and bench find the service of the method by its name. Both kinds of socket are tried.
///
/// Standard output is the reply's JSON and nothing else: indented and coloured on a terminal, otherwise on one line.
/// Numbers and the order of members stay as the service sent them. NO_COLOR is respected.
#[derive(Debug, Parser)]
#[command(name = "jsoncomm", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(Call),
    Services(Services),
    List(List),
    Describe(Describe),
    Compat(Compat),
    Peer(Peer),
    Serve(Serve),
    Tap(Tap),
    Bench(Bench),
    Completions(Completions),
    #[command(hide = true)]
    Complete(Complete),
    Man(Man),
}

/// How a service is reached.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The kind of its socket; by default both are tried
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<SocketKind>,
    /// The time for everything, from the start to the reply: seconds, or 200ms, 1.5s, 2m, or none [default: 25, after the
    /// JSON has been read]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Timeout>,
    /// The longest message to send or receive: bytes, or 512K, 16M, 1G [default: 1M]
    #[arg(long, value_name = "SIZE")]
    pub(crate) limit: Option<Size>,
}

impl Reach {
    /// Returns the longest message to send or receive, in bytes.
    pub(crate) fn limit(&self) -> usize {
        message_limit(self.limit)
    }
}

/// The longest message, in bytes.
pub(crate) fn message_limit(limit: Option<Size>) -> usize {
    let limit = limit.map(|Size(limit)| limit);
    limit.unwrap_or_else(|| Limits::default().message)
}

/// Calls a method and prints the reply.
#[derive(Debug, Args)]
#[command(
    override_usage = "jsoncomm call [OPTIONS] [ADDRESS] METHOD [JSON] [-- CMD...]
       jsoncomm call --bare [OPTIONS] [ADDRESS] JSON [-- CMD...]"
)]
pub(crate) struct Call {
    /// The address, the full name of the method, and its arguments: an object, or an array by position. @FILE reads them
    /// from a file, - from standard input. Without JSON there are none
    #[arg(value_name = "ADDRESS METHOD JSON", num_args = 1.., value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Pass a file as the argument FIELD, opened for reading, with :rw for reading and writing (created if it does not
    /// exist). A socket is connected to. fd:N is a descriptor that jsoncomm was started with, - is standard input
    #[arg(
        long = "fd",
        value_name = "FIELD=PATH[:rw]",
        value_parser = OsStringValueParser::new().try_map(Lend::try_from)
    )]
    pub(crate) fds: Vec<Lend>,
    /// Copy the content of the descriptor in the reply's FIELD to a file, which is opened before the call, or to the
    /// descriptor fd:N, or with - to standard output; the reply's JSON then goes to standard error
    #[arg(
        long,
        value_name = "FIELD=FILE",
        value_parser = OsStringValueParser::new().try_map(Save::try_from),
        conflicts_with_all = ["oneway", "follow"]
    )]
    pub(crate) save: Vec<Save>,
    /// Execute CMD, with the reply's descriptors from 3 on (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES); the reply's JSON goes
    /// to standard error
    #[arg(long, requires = "program", conflicts_with_all = ["oneway", "follow"])]
    pub(crate) exec: bool,
    /// Do not wait for a reply
    #[arg(long, conflicts_with = "follow")]
    pub(crate) oneway: bool,
    /// Print each item of a stream on its own line, until the stream ends; the timeout, none by default, is for each item
    #[arg(long)]
    pub(crate) follow: bool,
    /// Send the JSON as the whole message, without an envelope, and receive the reply without one
    #[arg(long, conflicts_with = "follow")]
    pub(crate) bare: bool,
    /// The program of --exec
    #[arg(last = true, value_name = "CMD", requires = "exec", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<OsString>,
}

/// Lists the methods of the services at an address.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm list [OPTIONS] [ADDRESS]")]
pub(crate) struct List {
    /// The address of the services
    #[arg(value_name = "ADDRESS", num_args = 0..=1, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Describes the methods of the services at an address.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm describe [OPTIONS] [ADDRESS] [METHOD]")]
pub(crate) struct Describe {
    /// The address, and the method to describe; without METHOD all are described
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
    /// Print the OpenRPC document as the service sent it
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a typed client in Python, for the module jsoncomm in the library's examples
    #[arg(long)]
    pub(crate) python: bool,
    /// Print the service's traits and types in Rust; values without a type are serde_json::Value
    #[arg(long)]
    pub(crate) rust: bool,
}

/// Compares two versions of services, and prints what each change means for programs that were built with the old one.
///
/// OLD and NEW are OpenRPC documents, in files or on standard input (-), or addresses of servers. For each change it prints
/// what happens to clients of the old version at servers of the new one, and to servers of the old version with clients of
/// the new one: it works, fails only if what is new is used, or breaks. The exit status is 1 if something breaks.
#[derive(Debug, Args)]
pub(crate) struct Compat {
    /// The old version
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) old: OsString,
    /// The new version
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) new: OsString,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Let the exit status tell only what happens to old clients, or to old servers; by default it tells of both
    #[arg(long = "for", value_name = "SIDE")]
    pub(crate) side: Option<Side>,
    /// Print an object for each change, on a line of its own
    #[arg(long)]
    pub(crate) json: bool,
}

/// The programs of an old version that a change may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Clients.
    Clients,
    /// Servers.
    Servers,
}

/// Prints which process serves an address, and how large a message can be.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm peer [OPTIONS] [ADDRESS]")]
pub(crate) struct Peer {
    /// The address
    #[arg(value_name = "ADDRESS", num_args = 0..=1, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Serves a method by running a program for each call.
///
/// The program gets the arguments as JSON on standard input, and the descriptors from 3 on (LISTEN_FDS). Its standard
/// output is the result: JSON, or nothing for null. An exit status other than 0 is the code of a service error, whose
/// message is the last line of its standard error; if a signal kills it, the code is 128 plus the signal's number.
/// JSONCOMM_METHOD, JSONCOMM_UID and JSONCOMM_PID have the method and the caller. It gets SIGTERM when its call is
/// cancelled. Several programs run at once.
///
/// ADDRESS may also be fd:N: a socket that jsoncomm was started with, such as fd:3 of a systemd socket unit. A connected
/// socket has one client; when the client closes it, jsoncomm exits.
///
/// On SIGTERM, SIGINT and SIGHUP new calls are refused; running programs have a second to finish.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm serve [OPTIONS] [ADDRESS] METHOD -- CMD...")]
pub(crate) struct Serve {
    /// The address to bind, and the full name of the method
    #[arg(value_name = "ADDRESS METHOD", num_args = 1..=2, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    /// The kind of socket [default: seqpacket, or the kind of the descriptor]
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<SocketKind>,
    /// The permission bits of the socket's file, whatever the umask. A process that may write to the file may call
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<FileMode>,
    /// The longest message to receive or send: bytes, or 512K, 16M, 1G [default: 1M]
    #[arg(long, value_name = "SIZE")]
    pub(crate) limit: Option<Size>,
    /// The number of programs that run at once; further calls are refused as busy
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
    /// Stop after the reply to the first call
    #[arg(long)]
    pub(crate) once: bool,
    /// The program to run
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<OsString>,
}

/// Forwards messages between clients and a service, and prints each one.
///
/// Each line begins with the number of the client and the direction: > to the service, < to the client. A line for each
/// descriptor says what it is. To the service the caller is the tap's user and process, not the client's. LISTEN may be
/// fd:N, as for serve.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm tap [OPTIONS] LISTEN [ADDRESS]")]
pub(crate) struct Tap {
    /// The address for clients to connect to, and that of the service
    #[arg(value_name = "LISTEN ADDRESS", num_args = 1..=2, value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    /// The kind of the service's socket, and of the tap's; by default it is found out
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<SocketKind>,
    /// The permission bits of the tap's socket file, whatever the umask
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<FileMode>,
}

/// Calls a method repeatedly, and prints how long the calls take.
///
/// The timeout is for connecting, and then for each call.
#[derive(Debug, Args)]
#[command(override_usage = "jsoncomm bench [OPTIONS] [ADDRESS] METHOD [JSON]")]
pub(crate) struct Bench {
    /// The address, the full name of the method, and its arguments, as for call
    #[arg(value_name = "ADDRESS METHOD JSON", num_args = 1.., value_hint = ValueHint::AnyPath)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// The number of calls; by default as many as there is time for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) calls: Option<u64>,
    /// The longest time to go on [default: 3, or none with --calls]
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<Timeout>,
}

/// Prints completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

/// Prints the manual page of jsoncomm, or of one of its commands.
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

/// The text is not a time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: write 10, 1.5s, 200ms, 2m or none")]
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

/// Returns what to bind, with these permission bits.
pub(crate) fn bind_at(address: Address, mode: Option<FileMode>) -> Bind {
    let bind = Bind::at(address);
    match mode {
        Some(FileMode(mode)) => bind.mode(mode),
        None => bind,
    }
}

/// A number of bytes on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// The text is not a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size: write bytes, or 512K, 16M, 1G")]
pub(crate) struct NoSize;

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let (number, shift) = match text.chars().last() {
            Some('K') => (text.strip_suffix('K'), 10),
            Some('M') => (text.strip_suffix('M'), 20),
            Some('G') => (text.strip_suffix('G'), 30),
            _ => (Some(text), 0),
        };
        let number = number.filter(|number| number.starts_with(|c: char| c.is_ascii_digit()));
        let number: Option<usize> = number.and_then(|number| number.parse().ok());
        let size = number.and_then(|number| number.checked_mul(1 << shift));
        size.filter(|size| *size > 0).map(Self).ok_or(NoSize)
    }
}

/// Permission bits on the command line, in octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

/// The text is not permission bits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a mode: write octal digits such as 600 or 0666")]
pub(crate) struct NoMode;

impl FromStr for FileMode {
    type Err = NoMode;

    fn from_str(text: &str) -> Result<Self, NoMode> {
        let is_octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok();
        let mode = mode.filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self).ok_or(NoMode)
    }
}

/// A file to pass: `FIELD=PATH[:rw]`, `FIELD=fd:N` or `FIELD=-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lend {
    pub(crate) field: Field,
    pub(crate) file: Spot,
    pub(crate) access: Access,
}

/// The access mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Reading,
    Both,
}

/// Where to copy the content of a descriptor: `FIELD=FILE`, `FIELD=fd:N` or `FIELD=-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Save {
    pub(crate) field: Field,
    pub(crate) file: Spot,
}

/// A file on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spot {
    /// `-`: standard input or output.
    Standard,
    /// `fd:N`: a descriptor that this program was started with.
    Inherited(i32),
    Path(PathBuf),
}

impl Spot {
    /// Parses `-` and `fd:N`. Anything else is a path, and so is `./fd:3`.
    fn read(text: &[u8]) -> Result<Self, String> {
        match text {
            b"-" => Ok(Self::Standard),
            [b'f', b'd', b':', number @ ..] => descriptor(number)
                .map(Self::Inherited)
                .ok_or_else(|| String::from("fd: without a number; a file of that name is ./fd:")),
            path => Ok(Self::Path(PathBuf::from(OsStr::from_bytes(path)))),
        }
    }
}

/// Parses the number of a descriptor.
pub(crate) fn descriptor(number: &[u8]) -> Option<i32> {
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    (number >= 0).then_some(number)
}

impl TryFrom<OsString> for Lend {
    type Error = String;

    fn try_from(text: OsString) -> Result<Self, String> {
        let (field, path) = pair(&text)?;
        let (path, access) = match path.strip_suffix(b":rw") {
            Some(path) => (path, Access::Both),
            None => (path, Access::Reading),
        };
        let file = Spot::read(path)?;
        Ok(Self {
            field,
            file,
            access,
        })
    }
}

impl TryFrom<OsString> for Save {
    type Error = String;

    fn try_from(text: OsString) -> Result<Self, String> {
        let (field, path) = pair(&text)?;
        let file = Spot::read(path)?;
        Ok(Self { field, file })
    }
}

fn pair(text: &OsStr) -> Result<(Field, &[u8]), String> {
    let missing = "write it as FIELD=PATH";
    let bytes = text.as_bytes();
    let place = bytes.iter().position(|byte| *byte == b'=').ok_or(missing)?;
    let (field, path) = bytes.split_at(place);
    let field = std::str::from_utf8(field).map_err(|_| "FIELD is not UTF-8")?;
    let field = field
        .parse()
        .map_err(|error: crate::field::NoField| error.to_string())?;
    match path {
        [_, path @ ..] if !path.is_empty() => Ok((field, path)),
        _ => Err(String::from(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_without_a_unit_is_in_seconds() {
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
        let read = |text: &[u8]| Lend::try_from(OsStr::from_bytes(text).to_owned());
        let path = |path: &[u8]| Spot::Path(PathBuf::from(OsStr::from_bytes(path)));
        let lend = read(b"a.b=x=y:rw").unwrap();
        assert_eq!(
            (lend.field.to_string(), lend.access),
            ("a.b".into(), Access::Both)
        );
        assert_eq!(lend.file, path(b"x=y"));
        for (text, file) in [
            (&b"a=-"[..], Spot::Standard),
            (b"a=fd:5", Spot::Inherited(5)),
            (b"a=./fd:5", path(b"./fd:5")),
            (b"a=\xff", path(b"\xff")),
        ] {
            assert_eq!(read(text).unwrap().file, file);
        }
        let save = Save::try_from(OsString::from(".=-")).unwrap();
        assert_eq!((save.field, save.file), (Field::default(), Spot::Standard));
        for bad in [
            &b""[..],
            b"a",
            b"a=",
            b"=x",
            b"a..b=x",
            b"a=fd:",
            b"a=fd:x",
            b"a=fd:-1",
            b"\xff=x",
        ] {
            assert!(read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_size_without_a_unit_is_in_bytes() {
        for (text, size) in [
            ("1", Ok(Size(1))),
            ("512K", Ok(Size(512 << 10))),
            ("16M", Ok(Size(16 << 20))),
            ("1G", Ok(Size(1 << 30))),
            ("0", Err(NoSize)),
            ("", Err(NoSize)),
            ("M", Err(NoSize)),
            ("+1", Err(NoSize)),
            ("1.5M", Err(NoSize)),
            ("1k", Err(NoSize)),
            ("99999999999G", Err(NoSize)),
        ] {
            assert_eq!(text.parse(), size, "{text}");
        }
    }

    #[test]
    fn a_mode_is_octal_permission_bits() {
        for (text, mode) in [
            ("600", Ok(FileMode(0o600))),
            ("0666", Ok(FileMode(0o666))),
            ("0", Ok(FileMode(0))),
            ("1777", Err(NoMode)),
            ("0o600", Err(NoMode)),
            ("u=rw", Err(NoMode)),
            ("+600", Err(NoMode)),
            ("", Err(NoMode)),
        ] {
            assert_eq!(text.parse(), mode, "{text}");
        }
    }
}
