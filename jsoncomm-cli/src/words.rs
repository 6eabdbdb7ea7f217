//! The words of the command line besides options: an address, a method, arguments.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use jsoncomm::fds::Fds;
use jsoncomm::message::DecodeError;
use jsoncomm::message::{RawMessage, UnusedFds, decode};

use crate::address::Place;
use crate::deadline::Deadline;
use crate::problem::Problem;
use crate::standard;

/// The words of a command line, taken from the front.
#[derive(Debug)]
pub(crate) struct Words {
    rest: std::vec::IntoIter<OsString>,
}

/// An address and a method.
pub(crate) fn read(mut words: Vec<OsString>) -> Result<(Place, Words), Problem> {
    let place = Place::take(&mut words)?;
    let rest = words.into_iter();
    Ok((place, Words { rest }))
}

/// An address and a method, or a method whose name tells the service.
pub(crate) fn read_call(mut words: Vec<OsString>) -> Result<(Place, Words), Problem> {
    let place = Place::take_or_find(&mut words)?;
    let rest = words.into_iter();
    Ok((place, Words { rest }))
}

/// A JSON text and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) json: String,
    pub(crate) from: Origin,
}

/// The origin of a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The word itself, or its beginning.
    Word(String),
    File(PathBuf),
    Standard,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) if word.is_empty() => f.write_str("the JSON"),
            Self::Word(word) => write!(f, "the argument {word}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Standard => f.write_str("standard input"),
        }
    }
}

/// Options for reading a JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// The longest text, in bytes.
    pub(crate) limit: usize,
    pub(crate) deadline: Deadline,
}

impl Words {
    /// Takes the next word, which is required.
    pub(crate) fn method(&mut self) -> Result<String, Problem> {
        self.next()?
            .ok_or_else(|| Problem::Usage(String::from("METHOD is missing")))
    }

    /// Takes the next word, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<String>, Problem> {
        self.rest.next().map(text).transpose()
    }

    /// Reads the JSON that the last word is or refers to.
    pub(crate) fn json(mut self, reading: Reading) -> Result<Option<Text>, Problem> {
        /// The part of a word that errors repeat, in bytes.
        const QUOTE: usize = 60;
        let Some(word) = self.rest.next() else {
            return Ok(None);
        };
        // Checked first: a part of a JSON text would be reported as invalid.
        self.end()?;
        let (json, from) = if word == "-" {
            let from = Origin::Standard;
            (contents(from.clone(), reading)?, from)
        } else if let Some(path) = word.as_bytes().strip_prefix(b"@") {
            let from = Origin::File(PathBuf::from(OsString::from_vec(path.to_vec())));
            (contents(from.clone(), reading)?, from)
        } else {
            let word = text(word)?;
            let mut quote: String = word.chars().take(QUOTE).collect();
            if quote.len() < word.len() {
                quote.push('…');
            }
            (word, Origin::Word(quote))
        };
        let text = Text { json, from };
        text.check()?;
        Ok(Some(text))
    }

    /// Fails if a word is left.
    pub(crate) fn end(mut self) -> Result<(), Problem> {
        match self.rest.next() {
            Some(word) => Err(Problem::Usage(format!(
                "{}: one word too many (JSON with spaces needs quotes: '{{\"a\": 1}}')",
                word.to_string_lossy()
            ))),
            None => Ok(()),
        }
    }
}

impl Text {
    /// Returns empty arguments.
    pub(crate) fn nothing() -> Self {
        let json = String::from("{}");
        let from = Origin::Word(json.clone());
        Self { json, from }
    }

    /// Fails if it is not JSON by the library's rules.
    fn check(&self) -> Result<(), Problem> {
        let from = self.from.clone();
        if self.json.trim_ascii().is_empty() {
            return Err(Problem::NoText(from));
        }
        let read = decode::<RawMessage>(self.json.as_bytes(), Fds::new(), UnusedFds::Close);
        match read {
            Ok(_) => Ok(()),
            Err(DecodeError::Syntax { reason }) => Err(Problem::NotJson { from, reason }),
            Err(error) => Err(Problem::Json { from, error }),
        }
    }

    /// Fails if it cannot be the arguments of a call.
    pub(crate) fn check_arguments(&self) -> Result<(), Problem> {
        if self.json.trim_ascii_start().starts_with(['{', '[']) {
            return Ok(());
        }
        Err(Problem::NoArguments(self.from.clone()))
    }
}

fn text(word: OsString) -> Result<String, Problem> {
    word.into_string()
        .map_err(|word| Problem::Usage(format!("{}: not UTF-8", word.to_string_lossy())))
}

/// Reads a text to its end. Fails if it is larger than a message may be.
fn contents(from: Origin, reading: Reading) -> Result<String, Problem> {
    let limit = reading.limit;
    // The writer may be slow.
    reading.deadline.wait_for(move || {
        let file = match &from {
            Origin::File(path) => File::open(path),
            Origin::Word(_) | Origin::Standard => standard::duplicate(0).map(File::from),
        };
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = file.and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(Problem::file(from.to_string()))?;
        if bytes.len() > limit {
            return Err(Problem::TooLong { from, limit });
        }
        String::from_utf8(bytes).map_err(|error| Problem::NotJson {
            from,
            reason: error.utf8_error().to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_argument_is_truncated_in_errors() {
        let words = vec![OsString::from("./a"), OsString::from("x".repeat(1000))];
        let (_, words) = read(words).unwrap();
        let reading = Reading {
            limit: 10,
            deadline: crate::deadline::Clock::start(None).reading(),
        };
        let error = words.json(reading).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
        assert!(error.starts_with("the argument xxx"), "{error}");
    }
}
