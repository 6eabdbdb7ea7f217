//! JSON trees whose members keep their order.

use std::borrow::Cow;

use crate::json::put_string;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Object(Vec<(Cow<'static, str>, Tree)>),
    Array(Vec<Tree>),
    Text(Cow<'static, str>),
    /// A number, `true`, `false` or `null`, as it is written.
    Token(Cow<'static, str>),
    /// A value that is written already, in one line and in several.
    #[cfg(feature = "schema")]
    Given {
        short: String,
        long: String,
    },
}

impl Tree {
    /// Returns an object of members with fixed names.
    pub(super) fn object<const N: usize>(members: [(&'static str, Tree); N]) -> Self {
        Self::of(Vec::from(members))
    }

    /// Returns an object. Not generic, so that it is compiled once.
    fn of(members: Vec<(&'static str, Tree)>) -> Self {
        let named = |(name, value)| (Cow::Borrowed(name), value);
        Self::Object(members.into_iter().map(named).collect())
    }

    pub(super) fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn number(number: impl ToString) -> Self {
        Self::Token(Cow::Owned(number.to_string()))
    }

    pub(super) fn bool(is: bool) -> Self {
        Self::Token(Cow::Borrowed(if is { "true" } else { "false" }))
    }

    /// Adds a member to an object.
    pub(super) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: Tree) {
        if let Self::Object(members) = self {
            members.push((name.into(), value));
        }
    }

    /// Writes it without white space.
    pub(super) fn in_one(&self) -> String {
        self.written(None)
    }

    /// Writes it in lines.
    pub(super) fn in_lines(&self) -> String {
        let mut text = self.written(Some(0));
        text.push('\n');
        text
    }

    fn written(&self, depth: Option<usize>) -> String {
        let mut out = Vec::new();
        self.write(&mut out, depth);
        // Only strings were written.
        String::from_utf8(out).unwrap_or_default()
    }

    fn write(&self, out: &mut Vec<u8>, depth: Option<usize>) {
        let inner = depth.map(|depth| depth + 1);
        match self {
            Self::Text(text) => put_string(out, text),
            Self::Token(token) => out.extend_from_slice(token.as_bytes()),
            #[cfg(feature = "schema")]
            Self::Given { short, long } => match depth {
                None => out.extend_from_slice(short.as_bytes()),
                Some(depth) => {
                    let line = format!("\n{}", " ".repeat(2 * depth));
                    out.extend_from_slice(long.replace('\n', &line).as_bytes());
                }
            },
            Self::Object(members) => list(out, b"{}", depth, members, |out, (name, value)| {
                put_string(out, name);
                out.extend_from_slice(if depth.is_some() { b": " } else { b":" });
                value.write(out, inner);
            }),
            Self::Array(items) => {
                list(out, b"[]", depth, items, |out, item| item.write(out, inner))
            }
        }
    }
}

/// Writes an object or array, with each member or element in a line of its own if there is a `depth`.
fn list<T>(
    out: &mut Vec<u8>,
    [open, close]: &[u8; 2],
    depth: Option<usize>,
    items: &[T],
    write: impl Fn(&mut Vec<u8>, &T),
) {
    let line = |out: &mut Vec<u8>, more: usize| {
        if let Some(depth) = depth {
            out.push(b'\n');
            out.extend(std::iter::repeat_n(b' ', 2 * (depth + more)));
        }
    };
    out.push(*open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        line(out, 1);
        write(out, item);
    }
    if !items.is_empty() {
        line(out, 0);
    }
    out.push(*close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_in_one_line_or_in_many() {
        let mut tree = Tree::object([("a", Tree::Array(vec![Tree::number(-1), Tree::bool(true)]))]);
        tree.push("\"b\"", Tree::object([]));
        tree.push("c", Tree::text("ä\n"));
        assert_eq!(tree.in_one(), r#"{"a":[-1,true],"\"b\"":{},"c":"ä\n"}"#);
        let lines =
            "{\n  \"a\": [\n    -1,\n    true\n  ],\n  \"\\\"b\\\"\": {},\n  \"c\": \"ä\\n\"\n}\n";
        assert_eq!(tree.in_lines(), lines);
    }
}
