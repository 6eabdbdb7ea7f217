//! JSON text, written from its start to its end.

use std::fmt::Display;
use std::io::Write;

use crate::json::put_string;

/// JSON that is being written. What comes next is separated from what came before by [`next`](Text::next).
#[derive(Debug)]
pub(super) struct Text {
    bytes: Vec<u8>,
    /// Each member and element has a line of its own.
    in_lines: bool,
    /// How many objects and arrays are open.
    depth: usize,
}

impl Text {
    /// Without white space.
    pub(super) fn in_one() -> Self {
        Self {
            bytes: Vec::new(),
            in_lines: false,
            depth: 0,
        }
    }

    /// With a line for each member and element.
    pub(super) fn in_lines() -> Self {
        Self {
            in_lines: true,
            ..Self::in_one()
        }
    }

    /// Opens an object by `{`, or an array by `[`.
    #[inline(never)]
    pub(super) fn open(&mut self, bracket: u8) {
        self.next();
        self.bytes.push(bracket);
        self.depth += 1;
    }

    /// Closes an object by `}`, or an array by `]`.
    #[inline(never)]
    pub(super) fn close(&mut self, bracket: u8) {
        self.depth = self.depth.saturating_sub(1);
        if !self.is_empty_inside() {
            self.new_line();
        }
        self.bytes.push(bracket);
    }

    /// Opens an object that is a member.
    #[inline(never)]
    pub(super) fn open_object(&mut self, name: &str) {
        self.key(name);
        self.open(b'{');
    }

    /// Opens an array that is a member.
    #[inline(never)]
    pub(super) fn open_array(&mut self, name: &str) {
        self.key(name);
        self.open(b'[');
    }

    #[inline(never)]
    pub(super) fn key(&mut self, name: &str) {
        self.string(name);
        self.bytes.push(b':');
        if self.in_lines {
            self.bytes.push(b' ');
        }
    }

    #[inline(never)]
    pub(super) fn string(&mut self, text: &str) {
        self.next();
        put_string(&mut self.bytes, text);
    }

    /// Writes a number or a boolean.
    #[inline(never)]
    pub(super) fn plain(&mut self, value: &dyn Display) {
        self.next();
        // Writing to memory does not fail.
        let _ = write!(self.bytes, "{value}");
    }

    /// Writes JSON that another library has made.
    #[cfg(feature = "schema")]
    pub(super) fn value(&mut self, value: &serde_json::Value) {
        self.next();
        let write = if self.in_lines {
            serde_json::to_string_pretty
        } else {
            serde_json::to_string
        };
        // Writing to memory fails only for keys that are not strings.
        for (number, line) in write(value).unwrap_or_default().split('\n').enumerate() {
            if number > 0 {
                self.new_line();
            }
            self.bytes.extend_from_slice(line.as_bytes());
        }
    }

    /// Writes a member whose value is a string.
    #[inline(never)]
    pub(super) fn member(&mut self, name: &str, text: &str) {
        self.key(name);
        self.string(text);
    }

    /// Writes a member whose value is a string, unless that is empty.
    #[inline(never)]
    pub(super) fn filled_member(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.member(name, text);
        }
    }

    /// Writes a member whose value is a number or a boolean.
    #[inline(never)]
    pub(super) fn plain_member(&mut self, name: &str, value: &dyn Display) {
        self.key(name);
        self.plain(value);
    }

    /// Writes a member whose value is an array of these strings, unless there are none.
    #[inline(never)]
    pub(super) fn filled_array(&mut self, name: &str, strings: &[&str]) {
        if strings.is_empty() {
            return;
        }
        self.open_array(name);
        for string in strings {
            self.string(string);
        }
        self.close(b']');
    }

    /// Ends the text, in lines by a line feed.
    pub(super) fn end(mut self) -> String {
        if self.in_lines {
            self.bytes.push(b'\n');
        }
        // Only whole strings have been written.
        String::from_utf8(self.bytes).unwrap_or_default()
    }

    /// Begins a key, an element or a value. A value stands behind its key.
    fn next(&mut self) {
        match self.bytes.last() {
            None | Some(b':' | b' ') => return,
            Some(b'{' | b'[') => {}
            Some(_) => self.bytes.push(b','),
        }
        self.new_line();
    }

    /// Returns true if nothing stands between the last bracket and the end: strings end in quotes.
    fn is_empty_inside(&self) -> bool {
        matches!(self.bytes.last(), Some(b'{' | b'['))
    }

    fn new_line(&mut self) {
        if self.in_lines {
            self.bytes.push(b'\n');
            let length = self.bytes.len() + 2 * self.depth;
            self.bytes.resize(length, b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mut text: Text) -> String {
        text.open(b'{');
        text.open_array("a");
        text.plain(&-1);
        text.plain(&true);
        text.string(" :");
        text.close(b']');
        text.open_object("\"b\"");
        text.close(b'}');
        text.filled_member("none", "");
        text.filled_array("none", &[]);
        text.member("c", "ä\n[");
        text.filled_array("d", &["{", ""]);
        text.close(b'}');
        text.end()
    }

    #[test]
    fn text_is_written_in_one_or_in_lines_as_serde_json_does() {
        let one = write(Text::in_one());
        assert_eq!(
            one,
            r#"{"a":[-1,true," :"],"\"b\"":{},"c":"ä\n[","d":["{",""]}"#
        );
        let lines = [
            "{",
            "  \"a\": [",
            "    -1,",
            "    true,",
            "    \" :\"",
            "  ],",
            r#"  "\"b\"": {},"#,
            r#"  "c": "ä\n[","#,
            "  \"d\": [",
            "    \"{\",",
            "    \"\"",
            "  ]",
            "}\n",
        ];
        assert_eq!(write(Text::in_lines()), lines.join("\n"));
    }
}
