//! JSON as a tree whose members keep their order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Boolean(bool),
    Integer(i128),
    /// A number that is no integer of up to 64 bits.
    Number(f64),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Returns the member with this name, if it is an object that has it.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let mut members = self.members().iter();
        members.find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Returns the members of an object.
    pub(super) fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// Returns the elements of an array.
    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// Returns the elements of the array in a member.
    pub(super) fn list(&self, name: &str) -> &[Self] {
        self.get(name).map_or(&[], Self::elements)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text in a member, or an empty one.
    pub(super) fn text_of(&self, name: &str) -> String {
        let text = self.get(name).and_then(Self::text);
        text.unwrap_or_default().to_owned()
    }

    /// Returns the texts in the array of a member.
    pub(super) fn texts_of(&self, name: &str) -> Vec<String> {
        let texts = self.list(name).iter().filter_map(Self::text);
        texts.map(str::to_owned).collect()
    }

    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns true if the member is `true`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.get(name) == Some(&Self::Boolean(true))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, is: bool) -> Result<Node, E> {
                Ok(Node::Boolean(is))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Integer(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Integer(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = from.next_element()? {
                    elements.push(element);
                }
                Ok(Node::Array(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = from.next_entry()? {
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
        }

        from.deserialize_any(Any)
    }
}
