//! `jsoncomm call`: one call, what becomes of its descriptors, and streams.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jsoncomm::message::{Failure, Surplus, Verbatim};
use jsoncomm::{CallError, Connection, FDS_MAX, Fds, Items, Socket};

use crate::args::{Access, Call, Lend, Reach, Save, Timeout};
use crate::json::Json;
use crate::places::Places;
use crate::problem::Problem;
use crate::{output, words};

/// How long an answer is waited for, unless the command line says otherwise.
const PATIENCE: Duration = Duration::from_secs(25);

/// Stands for standard input or output.
const STANDARD: &str = "-";

pub(crate) fn run(call: Call) -> Result<(), Problem> {
    // Before anything else has these numbers.
    let places = match call.exec {
        true => Some(Places::reserve(FDS_MAX)?),
        false => None,
    };
    let (place, mut words) = words::read(call.words)?;
    let method = match call.bare {
        true => None,
        false => Some(words.method()?),
    };
    let json = words.json()?;
    words.end()?;
    let params = match (&method, json) {
        (_, Some(json)) => json,
        (Some(_), None) => String::from("{}"),
        (None, None) => return Err(Problem::Usage(String::from("no JSON"))),
    };
    let params = message(&params, &call.fds)?;
    let answer = match method {
        None => {
            let mut link = place.reach(call.reach.kind)?;
            let socket = &mut link.end;
            bare(socket, &params, &call.reach, call.oneway)?
        }
        Some(method) => {
            let link = place.connect(call.reach.kind)?;
            if call.follow {
                return follow(&link.end, &call.reach, &method, &params);
            }
            let connection = within(&link.end, &call.reach);
            match call.oneway {
                true => {
                    connection.notify(&method, &params).map_err(io_only)?;
                    None
                }
                false => Some(connection.call::<Verbatim, Failure>(&method, &params)?),
            }
        }
    };
    let Some(mut answer) = answer else {
        return Ok(());
    };
    let to_stdout = call.save.iter().any(|save| is_standard(&save.path));
    match call.exec || to_stdout {
        true => output::answer_aside(&answer.json)?,
        false => output::answer(&answer.json)?,
    }
    save(&mut answer, &call.save)?;
    match places {
        Some(places) => become_program(places, &answer, &call.program),
        None => Ok(()),
    }
}

/// The same connection with the deadline of the command line.
pub(crate) fn within(connection: &Connection, reach: &Reach) -> Connection {
    match reach.timeout {
        None => connection.within(PATIENCE),
        Some(Timeout::After(time)) => connection.within(time),
        Some(Timeout::Never) => connection.patient(),
    }
}

/// The same for a socket.
pub(crate) fn set_timeout(socket: &mut Socket, reach: &Reach) {
    socket.set_timeout(match reach.timeout {
        None => Some(PATIENCE),
        Some(Timeout::After(time)) => Some(time),
        Some(Timeout::Never) => None,
    });
}

/// Makes a message of JSON and the files that are passed with it.
pub(crate) fn message(json: &str, lent: &[Lend]) -> Result<Verbatim, Problem> {
    let mut value = Json::parse(json).map_err(Problem::Json)?;
    let mut fds = Fds::new();
    for lend in lent {
        let fd = open(lend)?;
        let index = fds.push(fd).map_err(Problem::here("fcntl"))?;
        if lend.field.steps().is_empty() {
            value = Json::number(index);
            continue;
        }
        value
            .add(&lend.field, Json::number(index))
            .map_err(|problem| Problem::Misplaced {
                field: lend.field.clone(),
                problem,
            })?;
    }
    let json = match lent {
        [] => json.to_owned(),
        _ => value.to_string(),
    };
    Ok(Verbatim { json, fds })
}

fn open(lend: &Lend) -> Result<OwnedFd, Problem> {
    let opened = match lend.access {
        _ if is_standard(&lend.path) => io::stdin().as_fd().try_clone_to_owned(),
        Access::Reading => File::open(&lend.path).map(OwnedFd::from),
        Access::Both => OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lend.path)
            .map(OwnedFd::from),
    };
    opened.map_err(Problem::file(&lend.path))
}

fn is_standard(path: &Path) -> bool {
    path == Path::new(STANDARD)
}

/// Sends a message that is no call, and waits for one that answers it.
fn bare(
    socket: &mut Socket,
    message: &Verbatim,
    reach: &Reach,
    oneway: bool,
) -> Result<Option<Verbatim>, Problem> {
    set_timeout(socket, reach);
    socket.set_surplus(Surplus::Close);
    socket.send(message).map_err(Problem::of_socket)?;
    if oneway {
        return Ok(None);
    }
    let (answer, _) = socket.receive().map_err(Problem::of_socket)?;
    Ok(Some(answer))
}

/// Prints the items of a stream until it ends.
fn follow(
    connection: &Connection,
    reach: &Reach,
    method: &str,
    params: &Verbatim,
) -> Result<(), Problem> {
    let connection = within(connection, reach);
    let items: Items<Verbatim, Failure> = connection.stream(method, params)?;
    let items = match reach.timeout {
        None => items.patient(),
        Some(_) => items,
    };
    for item in items {
        output::item(&item?.json)?;
    }
    Ok(())
}

/// Copies what the answer's descriptors give to where the command line says.
fn save(answer: &mut Verbatim, saves: &[Save]) -> Result<(), Problem> {
    for save in saves {
        let not_there = || Problem::NotThere(save.field.clone());
        let json = Json::parse(&answer.json).map_err(|_| not_there())?;
        let index = json.at(&save.field).and_then(Json::index);
        let fd = index.and_then(|index| answer.fds.take(index));
        let mut from = File::from(fd.ok_or_else(not_there)?);
        if is_standard(&save.path) {
            io::copy(&mut from, &mut io::stdout()).map_err(Problem::Output)?;
            continue;
        }
        let copied = File::create(&save.path).and_then(|mut to| io::copy(&mut from, &mut to));
        copied.map_err(Problem::file(&save.path))?;
    }
    Ok(())
}

/// Becomes a program that has the answer's descriptors.
fn become_program(
    mut places: Places,
    answer: &Verbatim,
    program: &[std::ffi::OsString],
) -> Result<(), Problem> {
    let (name, arguments) = program
        .split_first()
        .ok_or_else(|| Problem::Usage(String::from("no CMD")))?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env("LISTEN_PID", std::process::id().to_string());
    let names = names(answer);
    let fds: Vec<_> = answer
        .fds
        .iter()
        .map(|(index, fd)| (fd, names(index)))
        .collect();
    places.fill(&mut command, &fds)?;
    Err(Problem::file(name)(command.exec()))
}

/// How each descriptor of a message is called: by its field, where that is certain.
pub(crate) fn names(message: &Verbatim) -> impl Fn(usize) -> String {
    let json = Json::parse(&message.json);
    let places = json.map_or_else(|_| Vec::new(), |json| json.indices());
    move |index| {
        // Each is named exactly once, so a number that is there once is its name.
        let mut found = places.iter().filter(|(_, number)| *number == index);
        match (found.next(), found.next()) {
            (Some((field, _)), None) => field.to_string(),
            _ => String::from("unknown"),
        }
    }
}

/// A call that nobody answers has no errors of a service.
fn io_only(error: CallError) -> Problem {
    match error {
        CallError::Service(never) => match never {},
        CallError::Fault(fault) => Problem::Fault(fault),
        CallError::Deadline => Problem::Deadline,
        CallError::Closed => Problem::Closed,
        CallError::Io(error) => Problem::of_socket(error),
        other => Problem::Usage(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_called_by_its_field_where_that_is_certain() {
        let message = Verbatim::new(r#"{"len":0,"file":0,"files":[1,{"x":2}]}"#);
        let name = names(&message);
        let called = [0, 1, 2, 3].map(name);
        assert_eq!(called, ["unknown", "files[0]", "files[1].x", "unknown"]);
    }
}
