//! What stands on the command line besides options: an address, a method, arguments.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jsoncomm::Limits;

use crate::address::Place;
use crate::problem::Problem;

/// The words of a command line, taken from the front.
#[derive(Debug)]
pub(crate) struct Words {
    rest: std::vec::IntoIter<OsString>,
}

/// Where to call what.
pub(crate) fn read(mut words: Vec<OsString>) -> Result<(Place, Words), Problem> {
    let place = Place::take(&mut words)?;
    let rest = words.into_iter();
    Ok((place, Words { rest }))
}

impl Words {
    /// The next word, which has to be there.
    pub(crate) fn method(&mut self) -> Result<String, Problem> {
        self.next()?
            .ok_or_else(|| Problem::Usage(String::from("no METHOD")))
    }

    /// The next word, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<String>, Problem> {
        self.rest.next().map(text).transpose()
    }

    /// The JSON that the next word is, or says where to find.
    pub(crate) fn json(&mut self) -> Result<Option<String>, Problem> {
        let Some(word) = self.next()? else {
            return Ok(None);
        };
        let json = match word.strip_prefix('@') {
            _ if word == "-" => contents(io::stdin(), OsStr::new("-"))?,
            Some(path) => {
                let file = File::open(path).map_err(Problem::file(path))?;
                contents(file, OsStr::new(path))?
            }
            None => word,
        };
        Ok(Some(json))
    }

    /// Sees to it that no word is left.
    pub(crate) fn end(mut self) -> Result<(), Problem> {
        match self.rest.next() {
            Some(word) => Err(Problem::Usage(format!(
                "{}: one word too many",
                word.to_string_lossy()
            ))),
            None => Ok(()),
        }
    }
}

fn text(word: OsString) -> Result<String, Problem> {
    word.into_string()
        .map_err(|word| Problem::Usage(format!("{}: not UTF-8", word.to_string_lossy())))
}

/// Reads a text to its end; one that is larger than any message is not.
fn contents(from: impl Read, name: &OsStr) -> Result<String, Problem> {
    let limit = Limits::default().message as u64;
    let mut text = String::new();
    from.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(Problem::file(Path::new(name)))?;
    Ok(text)
}
