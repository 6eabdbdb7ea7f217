//! JSON texts as written: inspected, extended and indented without changing a number or the order of members.
//!
//! The library checks every text that it receives or sends, so this parser only splits texts. A number, a string, `true`
//! and the like is one piece of text.

use std::borrow::Cow;
use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};
use jsoncomm::fds::Fds;
use jsoncomm::message::{Packer, UnusedFds, decode, encode};

use crate::field::{Field, Step};

/// The deepest nesting that the library's readers allow.
const DEPTH_MAX: usize = 127;

/// White space, as JSON has it.
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// A JSON value, as pieces of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json<'t> {
    /// Any other value, as written.
    Scalar(Cow<'t, str>),
    Array(Vec<Json<'t>>),
    /// The members, with their keys as written, quotes included.
    Object(Vec<(Cow<'t, str>, Json<'t>)>),
}

/// The text is not JSON.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {expected} is expected at byte {at}")]
pub(crate) struct Malformed {
    expected: &'static str,
    at: usize,
}

/// A value cannot be added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misplaced {
    #[error("the JSON has a value there already")]
    Taken,
    #[error("the JSON has no object for that member, or no array that ends there")]
    NoPlace,
}

impl<'t> Json<'t> {
    /// Parses a text.
    pub(crate) fn parse(text: &'t str) -> Result<Self, Malformed> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_blanks();
        if reader.rest().is_empty() {
            Ok(value)
        } else {
            Err(reader.expected("the end"))
        }
    }

    /// Makes a string.
    pub(crate) fn string(text: &str) -> Json<'static> {
        Json::Scalar(quoted(text).into())
    }

    /// Makes a number.
    pub(crate) fn number(number: impl fmt::Display) -> Json<'static> {
        Json::Scalar(number.to_string().into())
    }

    /// Makes an object with these members.
    pub(crate) fn object<'k>(members: impl IntoIterator<Item = (&'k str, Json<'t>)>) -> Self {
        let quote = |(key, value)| (Cow::Owned(quoted(key)), value);
        Json::Object(members.into_iter().map(quote).collect())
    }

    /// Returns a member of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'t>> {
        self.members()
            .iter()
            .find_map(|(name, value)| (unquoted(name)? == key).then_some(value))
    }

    /// Returns the members of an object; none of another value.
    pub(crate) fn members(&self) -> &[(Cow<'t, str>, Json<'t>)] {
        match self {
            Json::Object(members) => members,
            Json::Scalar(_) | Json::Array(_) => &[],
        }
    }

    /// Returns the elements of an array; none of another value.
    pub(crate) fn elements(&self) -> &[Json<'t>] {
        match self {
            Json::Array(elements) => elements,
            Json::Scalar(_) | Json::Object(_) => &[],
        }
    }

    /// Returns the content of a string.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Json::Scalar(scalar) => unquoted(scalar),
            Json::Array(_) | Json::Object(_) => None,
        }
    }

    /// Returns the number if it may be the index of a descriptor.
    pub(crate) fn index(&self) -> Option<usize> {
        match self {
            Json::Scalar(scalar) => scalar.parse().ok(),
            Json::Array(_) | Json::Object(_) => None,
        }
    }

    /// Returns the value at a path inside this one.
    pub(crate) fn at(&self, field: &Field) -> Option<&Json<'t>> {
        field
            .steps()
            .iter()
            .try_fold(self, |value, step| match step {
                Step::Member(key) => value.get(key),
                Step::Element(index) => value.elements().get(*index),
            })
    }

    /// Adds a value at a path where there is none, with the objects and arrays on the way.
    pub(crate) fn add(&mut self, field: &Field, value: Json<'t>) -> Result<(), Misplaced> {
        let mut here = self;
        for (place, step) in field.steps().iter().enumerate() {
            let below = match field.steps().get(place + 1) {
                None => value.clone(),
                Some(Step::Member(_)) => Json::Object(Vec::new()),
                Some(Step::Element(_)) => Json::Array(Vec::new()),
            };
            let last = place + 1 == field.steps().len();
            here = match (here, step) {
                (Json::Object(members), Step::Member(key)) => {
                    let is_it = |name: &str| unquoted(name).as_deref() == Some(key);
                    let found = members.iter().position(|(name, _)| is_it(name));
                    let index = found.unwrap_or(members.len());
                    if found.is_none() {
                        members.push((quoted(key).into(), below));
                    } else if last {
                        return Err(Misplaced::Taken);
                    }
                    members.get_mut(index).map(|(_, value)| value)
                }
                (Json::Array(elements), Step::Element(index)) => {
                    if *index == elements.len() {
                        elements.push(below);
                    } else if last && *index < elements.len() {
                        return Err(Misplaced::Taken);
                    }
                    elements.get_mut(*index)
                }
                _ => None,
            }
            .ok_or(Misplaced::NoPlace)?;
        }
        Ok(())
    }

    /// Finds every scalar that may be the index of a descriptor, with its path.
    pub(crate) fn indices(&self) -> Vec<(Field, usize)> {
        let mut found = Vec::new();
        self.find_indices(&mut Field::default(), &mut found);
        found
    }

    fn find_indices(&self, here: &mut Field, found: &mut Vec<(Field, usize)>) {
        match self {
            Json::Scalar(_) => {
                if let Some(index) = self.index() {
                    found.push((here.clone(), index));
                }
            }
            Json::Array(elements) => {
                for (index, value) in elements.iter().enumerate() {
                    here.push(Step::Element(index));
                    value.find_indices(here, found);
                    here.pop();
                }
            }
            Json::Object(members) => {
                for (key, value) in members {
                    here.push(Step::Member(unquoted(key).unwrap_or_default()));
                    value.find_indices(here, found);
                    here.pop();
                }
            }
        }
    }

    /// Writes the text on one line without white space, or indented, over several.
    pub(crate) fn show(&self, layout: Layout, palette: &Palette) -> String {
        let mut out = String::new();
        let mut writer = Writer {
            out: &mut out,
            layout,
            palette,
        };
        // Writing to a `String` cannot fail.
        let _ = writer.value(self, 0);
        out
    }
}

impl fmt::Display for Json<'_> {
    /// On one line, unchanged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(Layout::Line, &Palette::PLAIN))
    }
}

/// The layout of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Line,
    Indented,
}

/// The styles of the parts of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette {
    key: Style,
    string: Style,
    number: Style,
    word: Style,
    /// Escape characters that a terminal interprets or does not show.
    escape: bool,
}

impl Palette {
    /// Unchanged.
    pub(crate) const PLAIN: Self = Self {
        key: Style::new(),
        string: Style::new(),
        number: Style::new(),
        word: Style::new(),
        escape: false,
    };

    /// For a terminal without colours.
    pub(crate) const COLOURLESS: Self = Self {
        escape: true,
        ..Self::PLAIN
    };

    /// For a terminal.
    pub(crate) const COLOURED: Self = Self {
        key: AnsiColor::Blue.on_default().bold(),
        string: AnsiColor::Green.on_default(),
        number: AnsiColor::Cyan.on_default(),
        word: AnsiColor::Magenta.on_default(),
        escape: true,
    };

    fn of(&self, scalar: &str) -> Style {
        match scalar.as_bytes().first() {
            Some(b'"') => self.string,
            Some(b'-' | b'0'..=b'9') => self.number,
            _ => self.word,
        }
    }
}

struct Writer<'w> {
    out: &'w mut String,
    layout: Layout,
    palette: &'w Palette,
}

impl Writer<'_> {
    fn value(&mut self, value: &Json<'_>, depth: usize) -> fmt::Result {
        match value {
            Json::Scalar(scalar) => self.piece(scalar, self.palette.of(scalar)),
            Json::Array(elements) => {
                self.out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.begin(index, depth + 1);
                    self.value(element, depth + 1)?;
                }
                self.end(elements.is_empty(), depth);
                self.out.push(']');
                Ok(())
            }
            Json::Object(members) => {
                self.out.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    self.begin(index, depth + 1);
                    self.piece(key, self.palette.key)?;
                    self.out.push(':');
                    if self.layout == Layout::Indented {
                        self.out.push(' ');
                    }
                    self.value(member, depth + 1)?;
                }
                self.end(members.is_empty(), depth);
                self.out.push('}');
                Ok(())
            }
        }
    }

    /// Starts the line of an element or member.
    fn begin(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push(',');
        }
        self.new_line(depth);
    }

    /// Starts the line of the closing bracket.
    fn end(&mut self, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
    }

    fn new_line(&mut self, depth: usize) {
        if self.layout == Layout::Indented {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", depth));
        }
    }

    fn piece(&mut self, piece: &str, style: Style) -> fmt::Result {
        write!(self.out, "{style}")?;
        for character in piece.chars() {
            if self.palette.escape && is_unprintable(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(self.out, "\\u{unit:04x}")?;
                }
            } else {
                self.out.push(character)
            }
        }
        write!(self.out, "{style:#}")
    }
}

/// Returns true if a terminal interprets a character instead of showing it, or if it changes how its neighbours are shown.
pub(crate) fn is_unprintable(character: char) -> bool {
    // Marks and overrides of direction, and invisible characters, can make one text look like another.
    const DECEIVING: [(char, char); 5] = [
        ('\u{61c}', '\u{61c}'),
        ('\u{200b}', '\u{200f}'),
        ('\u{2028}', '\u{202e}'),
        ('\u{2060}', '\u{206f}'),
        ('\u{feff}', '\u{feff}'),
    ];
    let among = |(from, to): &(char, char)| (*from..=*to).contains(&character);
    character.is_control() || DECEIVING.iter().any(among)
}

/// Writes a text as a JSON string.
fn quoted(text: &str) -> String {
    let mut json = Vec::new();
    // Serializing a string cannot fail.
    let _ = encode(text, &mut json, &Packer::new());
    String::from_utf8(json).unwrap_or_default()
}

/// Parses a JSON string.
fn unquoted(json: &str) -> Option<String> {
    decode(json.as_bytes(), Fds::new(), UnusedFds::Close).ok()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn expected(&self, expected: &'static str) -> Malformed {
        Malformed {
            expected,
            at: self.at,
        }
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(BLANK).len();
    }

    /// Skips white space and then this bracket, comma or colon; returns false if it is not there.
    fn step(&mut self, mark: char) -> bool {
        self.skip_blanks();
        let there = self.rest().starts_with(mark);
        self.at += if there { mark.len_utf8() } else { 0 };
        there
    }

    fn value(&mut self, depth: usize) -> Result<Json<'t>, Malformed> {
        if depth > DEPTH_MAX {
            return Err(self.expected("an end of nesting"));
        }
        if self.step('[') {
            let mut elements = Vec::new();
            while !(elements.is_empty() && self.step(']')) {
                elements.push(self.value(depth + 1)?);
                if self.step(']') {
                    break;
                }
                if !self.step(',') {
                    return Err(self.expected("a comma or a bracket"));
                }
            }
            return Ok(Json::Array(elements));
        }
        if self.step('{') {
            let mut members = Vec::new();
            while !(members.is_empty() && self.step('}')) {
                self.skip_blanks();
                let key = self.string()?;
                if !self.step(':') {
                    return Err(self.expected("a colon"));
                }
                members.push((key.into(), self.value(depth + 1)?));
                if self.step('}') {
                    break;
                }
                if !self.step(',') {
                    return Err(self.expected("a comma or a brace"));
                }
            }
            return Ok(Json::Object(members));
        }
        let scalar = if self.rest().starts_with('"') {
            self.string()?
        } else {
            self.word()?
        };
        Ok(Json::Scalar(scalar.into()))
    }

    /// Reads a string with its quotes.
    fn string(&mut self) -> Result<&'t str, Malformed> {
        let rest = self.rest();
        let mut inside = rest
            .strip_prefix('"')
            .ok_or(self.expected("a string"))?
            .bytes();
        let mut length = 1;
        while let Some(byte) = inside.next() {
            length += 1;
            match byte {
                b'"' => return Ok(self.take(length)),
                b'\\' => length += usize::from(inside.next().is_some()),
                _ => {}
            }
        }
        Err(self.expected("the end of this string"))
    }

    /// Reads a number, or a word such as `null`.
    fn word(&mut self) -> Result<&'t str, Malformed> {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        match length {
            0 => Err(self.expected("a value")),
            _ => Ok(self.take(length)),
        }
    }

    fn take(&mut self, length: usize) -> &'t str {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.at += length;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        Json::parse(text).unwrap().to_string()
    }

    fn field(text: &str) -> Field {
        text.parse().unwrap()
    }

    #[test]
    fn order_numbers_and_escapes_are_kept() {
        let text = r#"{"z":123456789012345678901234567890.10,"a":[-0.0,1E+2,[],{}],"\u00e9\"":"\/\\","":null}"#;
        assert_eq!(line(text), text);
        let spaced = " {\n\t\"a\" : [ 1 ,\r\n 2 ] , \"b\" : { } , \"c\" : [ ] } ";
        assert_eq!(line(spaced), r#"{"a":[1,2],"b":{},"c":[]}"#);
    }

    #[test]
    fn json_is_indented_by_two_spaces() {
        let json = Json::parse(r#"{"a":[1,{"b":"x"}],"c":{},"d":[]}"#).unwrap();
        let shown = json.show(Layout::Indented, &Palette::COLOURLESS);
        let expected = "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(shown, expected);
    }

    #[test]
    fn control_characters_are_escaped_for_a_terminal_only() {
        let json = Json::parse("[\"\u{9b}2J\u{7f}\u{202e}ä\"]").unwrap();
        let shown = json.show(Layout::Line, &Palette::COLOURLESS);
        assert_eq!(shown, "[\"\\u009b2J\\u007f\\u202eä\"]");
        assert!(json.to_string().contains('\u{9b}'));
    }

    #[test]
    fn each_type_of_value_has_its_colour() {
        let json = Json::parse(r#"{"a":["x",-1,true]}"#).unwrap();
        let shown = json.show(Layout::Line, &Palette::COLOURED);
        for piece in [
            "\x1b[34m\"a\"",
            "\x1b[32m\"x\"",
            "\x1b[36m-1",
            "\x1b[35mtrue",
        ] {
            assert!(shown.contains(piece), "{shown:?}");
        }
        let plain = shown.split('\x1b').skip(1);
        let plain: String = plain
            .filter_map(|part| part.split_once('m'))
            .map(|(_, text)| text)
            .collect();
        assert!(plain.contains("\"a\""), "{plain}");
    }

    #[test]
    fn malformed_json_is_reported_with_its_position() {
        for (text, at) in [
            ("", 0),
            ("[1", 2),
            ("{\"a\" 1}", 5),
            ("[1,]", 3),
            ("1 2", 2),
            ("\"a", 0),
            ("{a:1}", 1),
        ] {
            assert_eq!(Json::parse(text).unwrap_err().at, at, "{text}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2);
        assert_eq!(
            Json::parse(&deep).unwrap_err().expected,
            "an end of nesting"
        );
        let deepest = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
        assert_eq!(line(&deepest), deepest);
    }

    #[test]
    fn members_are_found_with_any_escapes() {
        let json = Json::parse(r#"{"a":{"\u0062":[10,{"c":3}]}}"#).unwrap();
        assert_eq!(json.at(&field("a.b[1].c")).unwrap().index(), Some(3));
        assert!(json.at(&field("a.b[2]")).is_none());
        assert_eq!(json.at(&field(".")), Some(&json));
        let found = json.indices();
        assert_eq!(found, [(field("a.b[0]"), 10), (field("a.b[1].c"), 3)]);
    }

    #[test]
    fn a_value_is_added_if_it_is_absent() {
        let mut json = Json::parse(r#"{"path": "a", "list": [7]}"#).unwrap();
        for (place, number) in [("file", 0), ("list[1]", 1), ("new.list[0].x", 2)] {
            json.add(&field(place), Json::number(number)).unwrap();
        }
        let expected = r#"{"path":"a","list":[7,1],"file":0,"new":{"list":[{"x":2}]}}"#;
        assert_eq!(json.to_string(), expected);
        for (place, problem) in [
            ("path", Misplaced::Taken),
            ("list[0]", Misplaced::Taken),
            ("list[9]", Misplaced::NoPlace),
            ("path.x", Misplaced::NoPlace),
            ("list.x", Misplaced::NoPlace),
        ] {
            let error = json.add(&field(place), Json::number(9)).unwrap_err();
            assert_eq!(error, problem, "{place}");
        }
        assert_eq!(json.to_string(), expected);
    }
}
