//! `jsoncomm compat`: what changes between two versions of services mean.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use jsoncomm::openrpc::{self, Change, Document, Verdict};

use crate::address::Place;
use crate::args::{Compat, Reach, Side};
use crate::json::Json;
use crate::problem::Problem;
use crate::{discover, output, standard};

pub(crate) fn run(compat: Compat) -> Result<(), Problem> {
    standard::check_output()?;
    let old = document(&compat.old, &compat.reach)?;
    let new = document(&compat.new, &compat.reach)?;
    let changes = openrpc::compare(&old, &new);
    if compat.json {
        for change in &changes {
            output::item(&in_json(change))?;
        }
    } else {
        table(&changes)?;
    }
    let breaks = |change: &&Change| {
        let clients = change.clients == Verdict::Breaks && compat.side != Some(Side::Servers);
        let servers = change.servers == Verdict::Breaks && compat.side != Some(Side::Clients);
        clients || servers
    };
    match changes.iter().filter(breaks).count() {
        0 => Ok(()),
        breaking => Err(Problem::Incompatible {
            breaking,
            changes: changes.len(),
        }),
    }
}

/// Reads a document from a file or standard input, or asks a server for it.
fn document(word: &OsStr, reach: &Reach) -> Result<Document, Problem> {
    let text = match Place::read(word) {
        _ if word == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(Problem::file(PathBuf::from("standard input")))?;
            text
        }
        Some(place) if !is_document(word) => discover::ask(&place?, reach)?,
        _ => fs::read_to_string(word).map_err(Problem::file(PathBuf::from(word)))?,
    };
    Document::parse(&text).map_err(|error| {
        let word = output::printable(&word.to_string_lossy()).into_owned();
        Problem::NotDocument { word, error }
    })
}

/// Returns true for the path of a file that is no socket.
fn is_document(word: &OsStr) -> bool {
    fs::metadata(Path::new(word)).is_ok_and(|data| !data.file_type().is_socket())
}

fn table(changes: &[Change]) -> Result<(), Problem> {
    if changes.is_empty() {
        return output::line("no changes");
    }
    output::line("old clients    old servers    change")?;
    for Change {
        place,
        what,
        clients,
        servers,
        ..
    } in changes
    {
        output::line(&format!("{clients:<13}  {servers:<13}  {place}: {what}"))?;
    }
    Ok(())
}

fn in_json(change: &Change) -> String {
    let text = |text: &str| Json::string(text);
    let (clients, servers) = (change.clients.to_string(), change.servers.to_string());
    Json::object(vec![
        ("place", text(&change.place)),
        ("change", text(&change.what)),
        ("clients", text(&clients)),
        ("servers", text(&servers)),
    ])
    .to_string()
}
