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
    /// Returns an object of members with fixed names.
    pub(super) fn object<const N: usize>(members: [(&'static str, Tree); N]) -> Self {
        let named = |(name, value)| (Cow::Borrowed(name), value);
        Self::Object(members.into_iter().map(named).collect())
    }

    pub(super) fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Natural(u128::try_from(count).unwrap_or(u128::MAX))
    }

    /// Adds a member to an object.
    pub(super) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: Tree) {
        if let Self::Object(members) = self {
            members.push((name.into(), value));
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
        let mut tree =
            Tree::object([("a", Tree::Array(vec![Tree::Integer(-1), Tree::Bool(true)]))]);
        tree.push("\"b\"", Tree::object([]));
        tree.push("c", Tree::text("ä\n"));
        assert_eq!(tree.in_one(), r#"{"a":[-1,true],"\"b\"":{},"c":"ä\n"}"#);
        let lines =
            "{\n  \"a\": [\n    -1,\n    true\n  ],\n  \"\\\"b\\\"\": {},\n  \"c\": \"ä\\n\"\n}\n";
        assert_eq!(tree.in_lines(), lines);
    }
}
