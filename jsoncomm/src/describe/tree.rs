//! JSON trees whose members keep their order.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Object(Vec<(Cow<'static, str>, Tree)>),
    Array(Vec<Tree>),
    Text(Cow<'static, str>),
    Integer(i128),
    Natural(u128),
    Bool(bool),
    /// A value that another library made.
    #[cfg(feature = "schema")]
    Given(serde_json::Value),
}

impl Tree {
    /// Returns an object without members.
    pub(super) fn object() -> Self {
        Self::Object(Vec::new())
    }

    pub(super) fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(super) fn string(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Natural(u128::try_from(count).unwrap_or(u128::MAX))
    }

    /// Adds a member to an object.
    pub(super) fn push(&mut self, name: &'static str, value: Tree) {
        self.push_member(Cow::Borrowed(name), value);
    }

    /// Adds a member to an object, whose name is computed.
    pub(super) fn push_named(&mut self, name: String, value: Tree) {
        self.push_member(Cow::Owned(name), value);
    }

    fn push_member(&mut self, name: Cow<'static, str>, value: Tree) {
        if let Self::Object(members) = self {
            members.push((name, value));
        }
    }

    /// Adds a member to an object, unless its value is an empty text or array.
    pub(super) fn push_filled(&mut self, name: &'static str, value: Tree) {
        let is_empty = match &value {
            Self::Text(text) => text.is_empty(),
            Self::Array(items) => items.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.push(name, value);
        }
    }

    /// Returns the object with one more member.
    pub(super) fn with(mut self, name: &'static str, value: Tree) -> Self {
        self.push(name, value);
        self
    }

    /// Returns the object with one more member, unless its value is an empty text or array.
    pub(super) fn with_filled(mut self, name: &'static str, value: Tree) -> Self {
        self.push_filled(name, value);
        self
    }

    /// Writes it without white space.
    pub(super) fn in_one(&self) -> String {
        // Writing to memory fails only for keys that are not strings.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes it in lines.
    pub(super) fn in_lines(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(members) => {
                to.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
            Self::Array(items) => to.collect_seq(items),
            Self::Text(text) => to.serialize_str(text),
            Self::Integer(number) => to.serialize_i128(*number),
            Self::Natural(number) => to.serialize_u128(*number),
            Self::Bool(is) => to.serialize_bool(*is),
            #[cfg(feature = "schema")]
            Self::Given(value) => value.serialize(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_on_one_line_or_many() {
        let items = vec![Tree::Integer(-1), Tree::Bool(true)];
        let mut tree = Tree::object().with("a", Tree::Array(items));
        tree.push("\"b\"", Tree::object());
        tree.push("c", Tree::text("ä\n"));
        assert_eq!(tree.in_one(), r#"{"a":[-1,true],"\"b\"":{},"c":"ä\n"}"#);
        let lines =
            "{\n  \"a\": [\n    -1,\n    true\n  ],\n  \"\\\"b\\\"\": {},\n  \"c\": \"ä\\n\"\n}\n";
        assert_eq!(tree.in_lines(), lines);
    }
}
