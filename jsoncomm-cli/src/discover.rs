//! `jsoncomm list` and `jsoncomm describe`: the description of a service.

use jsoncomm::message::{RawError, RawMessage};
use jsoncomm::{CallError, Connection, Fault};

use crate::address::Place;
use crate::args::{Describe, List, Reach};
use crate::call::within;
use crate::deadline::Clock;
use crate::json::Json;
use crate::problem::Problem;
use crate::{output, standard, stubs, words};
use jsoncomm::openrpc::{Document, Method};

/// The method that returns a server's description.
const DISCOVER: &str = "rpc.discover";

pub(crate) fn list(list: List) -> Result<(), Problem> {
    let (place, words) = words::read(list.words)?;
    words.end()?;
    let text = ask(&place, &list.reach)?;
    let document = read(&text)?;
    let names = document.methods.iter().map(|method| method.name.len());
    let width = names.max().unwrap_or_default();
    for Method { name, summary, .. } in &document.methods {
        output::line(format!("{name:width$}  {summary}").trim_end())?;
    }
    Ok(())
}

pub(crate) fn describe(describe: Describe) -> Result<(), Problem> {
    let (place, mut words) = words::read_call(describe.words)?;
    let name = words.next()?;
    words.end()?;
    let text = ask(&place, &describe.reach)?;
    if describe.form.json {
        return print(&text, name);
    }
    let document = read(&text)?;
    let is_asked_for = |method: &&Method| name.as_ref().is_none_or(|name| method.name == *name);
    let methods: Vec<&Method> = document.methods.iter().filter(is_asked_for).collect();
    if let (true, Some(name)) = (methods.is_empty(), name) {
        return Err(Problem::NoMethod(name));
    }
    if describe.form.python {
        return output::page(stubs::python(&document, &methods).as_bytes());
    }
    if describe.form.rust {
        return output::page(stubs::rust(&document, &methods).as_bytes());
    }
    explain(&document, &methods)
}

/// Asks a server for its document.
pub(crate) fn ask(place: &Place, reach: &Reach) -> Result<String, Problem> {
    standard::check_output()?;
    let deadline = Clock::start(reach.timeout).calling();
    let link = place.connect(reach, deadline)?;
    let connection = within(&link.end, deadline);
    let nothing = RawMessage::new("{}");
    match connection.call::<RawMessage, RawError>(DISCOVER, &nothing) {
        Ok(document) => Ok(document.json),
        Err(CallError::Fault(fault)) if fault.code == Fault::METHOD_NOT_FOUND => {
            Err(Problem::Undescribed(fault))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the description of what is served on the connection; `None` if the server does not give one.
pub(crate) fn description(connection: &Connection) -> Result<Option<Document>, Problem> {
    let nothing = RawMessage::new("{}");
    match connection.call::<RawMessage, RawError>(DISCOVER, &nothing) {
        Ok(document) => Ok(read(&document.json).ok()),
        Err(CallError::Service(_) | CallError::Fault(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(text: &str) -> Result<Document, Problem> {
    Document::parse(text).map_err(|_| Problem::NoDocument)
}

/// Prints the document, or its part about one method, as the server sent it.
fn print(text: &str, name: Option<String>) -> Result<(), Problem> {
    let Some(name) = name else {
        return output::result(text);
    };
    let json = Json::parse(text).map_err(|_| Problem::NoDocument)?;
    let methods = json.get("methods").map_or(&[][..], Json::elements);
    let is_it =
        |method: &&Json<'_>| method.get("name").and_then(Json::text).as_ref() == Some(&name);
    match methods.iter().find(is_it) {
        Some(method) => output::result(&method.to_string()),
        None => Err(Problem::NoMethod(name)),
    }
}

/// Prints the document for people.
fn explain(document: &Document, methods: &[&Method]) -> Result<(), Problem> {
    for method in methods {
        output::line(&method.to_string())?;
        if let Some(version) = &method.since {
            let version = output::printable(version);
            output::line(&format!("    Since version {version}."))?;
        }
        if method.deprecated {
            output::line("    Deprecated.")?;
        }
        if method.restricted {
            output::line("    Not for everybody: the server has a rule for it.")?;
        }
        for line in method.docs.lines() {
            output::line(format!("    {line}").trim_end())?;
        }
        for param in method.params.iter().filter(|param| !param.docs.is_empty()) {
            let docs = param.docs.replace('\n', " ");
            output::line(&format!("    {}: {docs}", param.name))?;
        }
        let errors = method.errors.iter();
        let errors: Vec<_> = errors
            .map(|error| format!("{} ({})", error.name, error.code))
            .collect();
        if !errors.is_empty() {
            output::line(&format!("    Fails with {}.", errors.join(", ")))?;
        }
        output::line("")?;
    }
    for one in document.types_of(methods) {
        output::line(&format!("{} = {}", one.name, one.ty))?;
        for line in one.docs.lines() {
            output::line(format!("    {line}").trim_end())?;
        }
    }
    Ok(())
}
