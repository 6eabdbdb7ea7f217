//! A host service that today's osbuild starts and calls unchanged, and a client for such services.
//!
//! ```text
//! cargo run -p jsoncomm-examples --features osbuild --example osbuild_host -- --service-id ID --service-fd N
//! cargo run -p jsoncomm-examples --features osbuild --example osbuild_host -- call PROGRAM METHOD [ARGUMENTS [FILE...]]
//! ```
//!
//! osbuild runs the first form, with a connected seqpacket socket as descriptor N. The second does what osbuild does:
//! it starts such a program, calls a method with JSON arguments and open files, and prints the signals, the reply, and
//! the contents of the files in it.
//!
//! ```text
//! call       {"type":"method","data":{"name":"open","args":{"path":"a.txt"}}}
//! reply      {"type":"reply","data":{"reply":{"file":0}}}
//!            {"type":"exception","data":{"name":"OSError","value":"...","backtrace":"..."}}
//! before it  {"type":"signal","data":{"reply":{"done":1}}}
//! ```
//!
//! These are bare messages with an envelope of their own, which is two enums here. The arguments are any JSON. Some
//! methods name their descriptors there by index, others use their order, as `map` does. So they stay untyped, in
//! [`WithFds`], as a text that keeps all digits of a number. `type` and `data` come in any order; absent `args` are
//! `[]`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt};

use jsoncomm::fds::{Fds, inherit, inherited_fd};
use jsoncomm::message::WithFds;
use jsoncomm::socket::Socket;
use jsoncomm::{Kind, Message};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

const USAGE: &str = "usage: osbuild_host --service-id ID --service-fd N
       osbuild_host call PROGRAM METHOD [ARGUMENTS [FILE...]]";

/// Any JSON, unchanged, with the descriptors of its message.
type Loose = WithFds<Box<RawValue>>;

/// Longest message in bytes: sources pass lists of everything they download.
const MESSAGE_MAX: usize = 64 << 20;

/// How long a client waits for each message.
const PATIENCE: Duration = Duration::from_secs(25);

/// Messages of the host.
#[derive(Debug, Message)]
#[serde(tag = "type", content = "data", rename_all = "lowercase")]
enum Request {
    Method {
        name: String,
        #[fd]
        #[serde(default = "no_args")]
        args: Loose,
    },
}

fn no_args() -> Loose {
    loose(&json!([]), Fds::new())
}

/// Makes a message of this JSON.
fn loose(json: &Value, fds: Fds) -> Loose {
    let json = serde_json::value::to_raw_value(json).unwrap_or_default();
    WithFds { json, fds }
}

/// Messages of a service.
#[derive(Debug, Message)]
#[serde(tag = "type", content = "data", rename_all = "lowercase")]
enum Answer {
    Reply {
        #[fd]
        reply: Loose,
    },
    Exception(#[fd] Exception),
    Signal {
        #[fd]
        reply: Loose,
    },
}

/// An exception of a Python service.
#[derive(Debug, Message)]
struct Exception {
    /// The name of its class.
    name: String,
    value: String,
    /// The traceback; empty from a service in Rust.
    backtrace: String,
}

impl Exception {
    fn new(name: &str, value: impl fmt::Display) -> Self {
        Self {
            name: name.into(),
            value: value.to_string(),
            backtrace: String::new(),
        }
    }
}

impl From<io::Error> for Exception {
    fn from(error: io::Error) -> Self {
        Self::new("OSError", error)
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n{}", self.name, self.value, self.backtrace)
    }
}

impl Error for Exception {}

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Best effort: the reader may have closed its end.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [command, program, method, rest @ ..] if command == "call" => call(program, method, rest),
        _ => {
            let place = arguments.iter().position(|word| word == "--service-fd");
            let number = place.and_then(|place| arguments.get(place + 1));
            serve(inherited_fd(number.ok_or(USAGE)?.parse()?)?)
        }
    }
}

// The service.

/// Serves until the host closes its end. Signals do not stop it, so that the host can end its services in the order it
/// likes.
fn serve(socket: OwnedFd) -> Result<(), Box<dyn Error>> {
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    let mut socket = Socket::from_fd(socket)?;
    socket.set_message_limit(MESSAGE_MAX);
    loop {
        let reply = match socket.receive() {
            Ok((Request::Method { name, args }, _)) => dispatch(&mut socket, &name, args),
            Err(jsoncomm::Error::Closed) => return Ok(()),
            // The message is not a call; the next one may be.
            Err(
                error @ (jsoncomm::Error::Decode(_)
                | jsoncomm::Error::Payload { .. }
                | jsoncomm::Error::TooLarge { .. }
                | jsoncomm::Error::Truncated { .. }
                | jsoncomm::Error::DescriptorsLost),
            ) => Err(Exception::new("ProtocolError", error)),
            Err(error) => return Err(error.into()),
        };
        match socket.send(&match reply {
            Ok(reply) => Answer::Reply { reply },
            Err(exception) => Answer::Exception(exception),
        }) {
            Err(jsoncomm::Error::Closed) => return Ok(()),
            sent => sent?,
        }
    }
}

/// Runs a call. Another service would have its own methods here.
fn dispatch(socket: &mut Socket, name: &str, args: Loose) -> Result<Loose, Exception> {
    let WithFds { json, mut fds } = args;
    let member = |name| {
        let value = serde_json::from_str::<Value>(json.get()).ok();
        let member = value.and_then(|mut value| Some(value.get_mut(name)?.take()));
        member.ok_or_else(|| Exception::new("KeyError", name))
    };
    match name {
        // Returns its arguments and descriptors.
        "echo" => Ok(WithFds { json, fds }),
        // Opens a file; the reply names its descriptor.
        "open" => {
            let path = member("path")?;
            fds = Fds::from(vec![File::open(path.as_str().unwrap_or_default())?.into()]);
            Ok(loose(&json!({"file": 0}), fds))
        }
        // Reads one file and writes another. No argument names them.
        "map" => {
            let missing = || Exception::new("IndexError", "two descriptors are needed");
            let mut asked = File::from(fds.take(0).ok_or_else(missing)?);
            let mut reply = File::from(fds.take(1).ok_or_else(missing)?);
            let mut text = String::new();
            asked.read_to_string(&mut text)?;
            reply.write_all(text.to_uppercase().as_bytes())?;
            Ok(loose(&json!("{}"), fds))
        }
        // Reports progress, and then completion.
        "count" => {
            let to = member("to")?.as_u64().unwrap_or_default();
            for done in 1..=to {
                signal(socket, &json!({"done": done}))?;
            }
            Ok(loose(&json!(to), fds))
        }
        other => Err(Exception::new("ValueError", format!("no method {other}"))),
    }
}

fn signal(socket: &mut Socket, json: &Value) -> Result<(), Exception> {
    let reply = loose(json, Fds::new());
    let sent = socket.send(&Answer::Signal { reply });
    sent.map_err(|error| Exception::new("BrokenPipeError", error))
}

// The client.

/// Starts a service, calls it once, and stops it.
fn call(program: &str, method: &str, rest: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut ours, theirs) = Socket::pair(Kind::Seqpacket)?;
    ours.set_message_limit(MESSAGE_MAX);
    ours.set_timeout(Some(PATIENCE));
    let mut command = Command::new(program);
    let number = inherit(&mut command, theirs.as_fd().try_clone_to_owned()?)?;
    command.args(["--service-id", "example", "--service-fd"]);
    let mut service = command.arg(number.to_string()).spawn()?;
    // The service's end is open there only.
    drop((theirs, command));
    let answered = exchange(&mut ours, method, rest);
    drop(ours);
    let ended = service.wait()?;
    let reply = answered?;
    writeln!(io::stdout(), "reply {}", reply.json)?;
    for (index, fd) in reply.fds.iter() {
        let mut text = String::new();
        File::from(fd.try_clone_to_owned()?).read_to_string(&mut text)?;
        writeln!(io::stdout(), "descriptor {index}: {text}")?;
    }
    if ended.success() {
        Ok(())
    } else {
        Err(format!("the service ended with {ended}").into())
    }
}

/// Calls a method, and prints the signals that come before its reply.
fn exchange(socket: &mut Socket, method: &str, rest: &[String]) -> Result<Loose, Box<dyn Error>> {
    let (json, files) = match rest {
        [arguments, files @ ..] => (RawValue::from_string(arguments.clone())?, files),
        [] => (Box::default(), rest),
    };
    let mut fds = Fds::new();
    for path in files {
        fds.push(File::options().read(true).write(true).open(path)?.into())?;
    }
    socket.send(&Request::Method {
        name: method.into(),
        args: WithFds { json, fds },
    })?;
    loop {
        match socket.receive()?.0 {
            Answer::Reply { reply } => return Ok(reply),
            Answer::Exception(exception) => return Err(exception.into()),
            Answer::Signal { reply } => writeln!(io::stdout(), "signal {}", reply.json)?,
        }
    }
}
