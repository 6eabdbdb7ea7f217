//! Output: replies on standard output, everything else on standard error.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};

use crate::json::{Json, Layout, Palette, is_unprintable};
use crate::problem::Problem;
use crate::standard;

/// The layout and colours of a stream.
#[derive(Debug, Clone, Copy)]
struct Manner {
    layout: Layout,
    palette: Palette,
}

impl Manner {
    /// Returns indented and, unless `NO_COLOR` or the like is set, coloured output for a terminal; otherwise one line,
    /// unchanged.
    fn of(stream: &impl RawStream) -> Self {
        let coloured = AutoStream::choice(stream) != ColorChoice::Never;
        let (layout, palette) = match (stream.is_terminal(), coloured) {
            (true, true) => (Layout::Indented, Palette::COLOURED),
            (true, false) => (Layout::Indented, Palette::COLOURLESS),
            // Requested on the command line.
            (false, true) => (Layout::Line, Palette::COLOURED),
            (false, false) => (Layout::Line, Palette::PLAIN),
        };
        Self { layout, palette }
    }
}

/// Returns the style for JSON among other text on standard output.
pub(crate) fn palette() -> Palette {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => Palette::COLOURLESS,
        _ => Palette::COLOURED,
    }
}

/// Prints the reply.
pub(crate) fn result(json: &str) -> Result<(), Problem> {
    print(json, None)
}

/// Prints one of several replies, on its own line.
pub(crate) fn item(json: &str) -> Result<(), Problem> {
    print(json, Some(Layout::Line))
}

/// Prints the reply to standard error, as standard output carries the data of a descriptor.
pub(crate) fn result_to_stderr(json: &str) -> Result<(), Problem> {
    let text = shown(&io::stderr(), json, None);
    match standard::write(io::stderr(), text.as_bytes()) {
        // EPIPE: the reader has closed its end, which is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Problem::ErrorOutput(error)),
        _ => Ok(()),
    }
}

fn print(json: &str, layout: Option<Layout>) -> Result<(), Problem> {
    page(shown(&io::stdout(), json, layout).as_bytes())
}

/// Formats JSON for a stream.
fn shown(stream: &impl RawStream, json: &str, layout: Option<Layout>) -> String {
    let manner = Manner::of(stream);
    // A text that the library has accepted and this parser does not is printed unchanged.
    let mut text = match Json::parse(json) {
        Ok(value) => value.show(layout.unwrap_or(manner.layout), &manner.palette),
        Err(_) => printable(json).into_owned(),
    };
    text.push('\n');
    text
}

/// Prints a line other than JSON on standard output.
pub(crate) fn line(text: &str) -> Result<(), Problem> {
    page(format!("{}\n", printable(text)).as_bytes())
}

/// Prints the help or the version.
pub(crate) fn help(text: &clap::Error) -> Result<(), Problem> {
    standard::check_output()?;
    let text = text.render();
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => page(text.to_string().as_bytes()),
        _ => page(text.ansi().to_string().as_bytes()),
    }
}

/// Prints a text of several lines.
pub(crate) fn page(text: &[u8]) -> Result<(), Problem> {
    standard::write(io::stdout(), text).map_err(Problem::Output)
}

/// Prints a remark to standard error.
pub(crate) fn note(text: &str) {
    // Best effort: standard error may be closed.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Prints an error to standard error.
pub(crate) fn tell(text: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    let text = printable(text);
    // Best effort: standard error may be closed.
    let _ = writeln!(anstream::stderr(), "{style}jsoncomm:{style:#} {text}");
}

/// Escapes characters that a terminal would interpret.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unprintable(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Formats arbitrary bytes as readable text.
pub(crate) fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text).into_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// Formats an error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a `String` cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_as_escapes() {
        assert_eq!(printable("plain ä"), "plain ä");
        assert_eq!(printable("\x1b[2J\n\u{9b}"), "\\u{1b}[2J\\n\\u{9b}");
        assert_eq!(readable(b"\xff\0"), "\\xff\\x00");
    }
}
