//! `jsoncomm call`: one call or stream, and its descriptors.

use std::os::unix::process::CommandExt;
use std::process::Command;

use jsoncomm::Connection;
use jsoncomm::fds::{FDS_MAX, Fds};
use jsoncomm::message::{RawError, RawMessage, UnusedFds};
use jsoncomm::socket::Socket;
use jsoncomm::stream::Items;

use crate::address::Place;
use crate::args::{Call, Lend, Reach, Save, Spot, Timeout};
use crate::deadline::{Clock, Deadline};
use crate::files::{self, Target, find_program, inherited};
use crate::json::Json;
use crate::places::Places;
use crate::problem::Problem;
use crate::words::{Origin, Reading, Text};
use crate::{discover, kinds, output, standard, words};

pub(crate) fn run(mut call: Call) -> Result<(), Problem> {
    let clock = Clock::start(call.reach.timeout);
    let to_stdout = call.save.iter().any(|save| save.file == Spot::Standard);
    let aside = call.exec || to_stdout;
    check_outputs(&call, aside)?;
    let given = std::mem::take(&mut call.words);
    let (place, mut words) = if call.bare {
        words::read(given)?
    } else {
        words::read_call(given)?
    };
    claim(&place, &call)?;
    let places = if call.exec {
        Some(places(&call)?)
    } else {
        None
    };
    let method = if call.bare {
        None
    } else {
        Some(words.method()?)
    };
    let reading = Reading {
        limit: call.reach.limit(),
        deadline: clock.reading(),
    };
    let text = match (words.json(reading)?, &method) {
        (Some(text), _) => text,
        (None, Some(_)) => Text::nothing(),
        (None, None) => return Err(Problem::Usage(String::from("JSON is missing"))),
    };
    if method.is_some() {
        text.check_arguments()?;
    }
    let deadline = clock.calling();
    let params = message(&text, &call.fds, deadline)?;
    let targets = targets(&call.save, deadline)?;
    let Some(mut reply) = ask(&place, method.as_deref(), &params, &call, deadline)? else {
        return Ok(());
    };
    if aside {
        output::result_to_stderr(&reply.json)?;
    } else {
        output::result(&reply.json)?;
    }
    for target in targets {
        target.fill(&mut reply)?;
    }
    match places {
        Some(places) => become_program(places, &reply, &call.program),
        None => Ok(()),
    }
}

/// Sends the call, and returns the reply unless it was printed already.
fn ask(
    place: &Place,
    method: Option<&str>,
    params: &RawMessage,
    call: &Call,
    deadline: Deadline,
) -> Result<Option<RawMessage>, Problem> {
    let Some(method) = method else {
        let mut link = place.reach(&call.reach, deadline)?;
        return bare(&mut link.end, params, deadline, call.oneway);
    };
    let link = place.connect(&call.reach, deadline)?;
    if !call.fds.is_empty() {
        check_kinds(&within(&link.end, deadline), method, params)?;
    }
    let connection = within(&link.end, deadline);
    if call.follow {
        follow(&connection, &call.reach, method, params)?;
        return Ok(None);
    }
    if call.oneway {
        connection.notify(method, params)?;
        return Ok(None);
    }
    let reply = connection.call::<RawMessage, RawError>(method, params)?;
    Ok(Some(reply))
}

/// Checks that the descriptors are what the service asks for, as far as it describes that.
fn check_kinds(connection: &Connection, method: &str, params: &RawMessage) -> Result<(), Problem> {
    let Some(document) = discover::description(connection)? else {
        return Ok(());
    };
    let mut methods = document.methods.iter();
    match methods.find(|known| known.name == method) {
        Some(method) => kinds::check(&document, method, params),
        None => Ok(()),
    }
}

/// Takes over the descriptors that the command line names, to free their numbers for a program that is started.
fn claim(place: &Place, call: &Call) -> Result<(), Problem> {
    let lent = call.fds.iter().map(|lend| &lend.file);
    let files = lent.chain(call.save.iter().map(|save| &save.file));
    for file in files {
        if let Spot::Inherited(number) = file {
            inherited(*number).map_err(Problem::inherited(*number))?;
        }
    }
    if let Place::Inherited(number) = place {
        // Connecting reports what is wrong with it.
        let _ = inherited(*number);
    }
    Ok(())
}

/// Reserves the descriptor numbers of the program, before anything else uses them.
fn places(call: &Call) -> Result<Places, Problem> {
    if let Some(name) = call.program.first() {
        find_program(name)?;
    }
    let places = Places::reserve(FDS_MAX)?;
    // --exec needs at least one.
    places.check(1)?;
    Ok(places)
}

/// Checks that the reply can be printed, before the call is sent.
fn check_outputs(call: &Call, aside: bool) -> Result<(), Problem> {
    if aside {
        standard::check_error()?;
    }
    // A program uses it as it likes, and a one-way call prints nothing.
    if call.oneway || call.exec {
        return Ok(());
    }
    standard::check_output()
}

/// Returns the connection with the time that is left as its timeout.
pub(crate) fn within(connection: &Connection, deadline: Deadline) -> Connection {
    match deadline.left() {
        Some(left) => connection.with_timeout(left),
        None => connection.without_timeout(),
    }
}

/// Makes a message of JSON and the files to pass with it.
pub(crate) fn message(
    text: &Text,
    lent: &[Lend],
    deadline: Deadline,
) -> Result<RawMessage, Problem> {
    if lent.is_empty() {
        return Ok(RawMessage::new(&*text.json));
    }
    let passes_input = lent.iter().any(|lend| lend.file == Spot::Standard);
    if passes_input && text.from == Origin::Standard {
        let what = "standard input is the JSON, and cannot be passed, too";
        return Err(Problem::Usage(String::from(what)));
    }
    let mut value = Json::parse(&text.json).map_err(|error| Problem::NotJson {
        from: text.from.clone(),
        reason: error.to_string(),
    })?;
    let mut fds = Fds::new();
    for lend in lent {
        let fd = files::open(lend, deadline)?;
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
    let json = value.to_string();
    Ok(RawMessage { json, fds })
}

/// Opens the files that the reply's descriptors are copied to.
fn targets(saves: &[Save], deadline: Deadline) -> Result<Vec<Target>, Problem> {
    let mut before: &[Save] = &[];
    let mut targets = Vec::new();
    for (index, save) in saves.iter().enumerate() {
        let twice = |what: String| Problem::Usage(format!("--save {what}: given twice"));
        if before.iter().any(|other| other.field == save.field) {
            return Err(twice(save.field.to_string()));
        }
        if let Spot::Path(path) = &save.file {
            if before.iter().any(|other| other.file == save.file) {
                return Err(twice(path.display().to_string()));
            }
        }
        targets.push(Target::open(save, deadline)?);
        before = saves.get(..=index).unwrap_or_default();
    }
    Ok(targets)
}

/// Sends a message without an envelope, and waits for the reply.
fn bare(
    socket: &mut Socket,
    message: &RawMessage,
    deadline: Deadline,
    oneway: bool,
) -> Result<Option<RawMessage>, Problem> {
    socket.set_surplus(UnusedFds::Close);
    socket.set_timeout(deadline.left());
    socket.send(message).map_err(Problem::of_socket)?;
    if oneway {
        return Ok(None);
    }
    socket.set_timeout(deadline.left());
    let (reply, _) = socket.receive().map_err(Problem::of_socket)?;
    Ok(Some(reply))
}

/// Prints the items of a stream until it ends.
fn follow(
    connection: &Connection,
    reach: &Reach,
    method: &str,
    params: &RawMessage,
) -> Result<(), Problem> {
    let items: Items<RawMessage, RawError> = connection.stream(method, params)?;
    let items = match reach.timeout {
        Some(Timeout::After(time)) => items.with_timeout(time),
        Some(Timeout::Never) | None => items.without_timeout(),
    };
    for item in items {
        output::item(&item?.json)?;
    }
    Ok(())
}

/// Executes a program that inherits the reply's descriptors.
fn become_program(
    mut places: Places,
    reply: &RawMessage,
    program: &[std::ffi::OsString],
) -> Result<(), Problem> {
    let (name, arguments) = program
        .split_first()
        .ok_or_else(|| Problem::Usage(String::from("CMD is missing")))?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env("LISTEN_PID", std::process::id().to_string());
    let names = names(reply);
    let fds: Vec<_> = reply
        .fds
        .iter()
        .map(|(index, fd)| (fd, names(index)))
        .collect();
    places.fill(&mut command, &fds)?;
    Err(Problem::file(name)(command.exec()))
}

/// Returns the name of each descriptor of a message: its field, where that is certain.
pub(crate) fn names(message: &RawMessage) -> impl Fn(usize) -> String {
    let json = Json::parse(&message.json);
    let places = json.map_or_else(|_| Vec::new(), |json| json.indices());
    move |index| {
        // Each is named exactly once, so a number that occurs once is its index.
        let mut found = places.iter().filter(|(_, number)| *number == index);
        match (found.next(), found.next()) {
            (Some((field, _)), None) => field.to_string(),
            _ => String::from("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_named_by_its_field_if_that_is_certain() {
        let message = RawMessage::new(r#"{"len":0,"file":0,"files":[1,{"x":2}]}"#);
        let name = names(&message);
        let called = [0, 1, 2, 3].map(name);
        assert_eq!(called, ["unknown", "files[0]", "files[1].x", "unknown"]);
    }
}
