//! Types, from their schemas.

use std::fmt;

use super::node::Node;
use crate::fds::FdKind;

/// A type, from its schema.
///
/// [`Display`](fmt::Display) is one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// Any value: a schema without a rule, or of an unknown form. The text is the name of the type in Rust, or empty.
    Any(String),
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// An integer.
    #[non_exhaustive]
    Integer {
        /// The least; `None` if there is none, or it has more than 64 bits.
        least: Option<i128>,
        /// The greatest; `None` if there is none, or it has more than 64 bits.
        most: Option<i128>,
    },
    /// A floating-point number.
    Number,
    /// A string.
    Text,
    /// The index of a descriptor that is all of this.
    Descriptor(FdKind),
    /// The index of a connection to a service of this name; empty if it is not told.
    Endpoint(String),
    /// This string.
    Word(String),
    /// An array of any length, or of this length.
    List(Box<Type>, Option<i128>),
    /// An array with an element of each of these types.
    Tuple(Vec<Type>),
    /// An object with any keys.
    Map(Box<Type>),
    /// An object with these members.
    Object(Vec<Member>),
    /// The [`Definition`](super::Definition) of this name.
    Named(String),
    /// This type or `null`.
    Nullable(Box<Type>),
    /// One of these types. If one of them is [`Any`](Type::Any), readers take variants that are not described.
    OneOf(Vec<Type>),
}

/// A parameter, or a member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The name.
    pub name: String,
    /// Older names that are accepted as well.
    pub aliases: Vec<String>,
    /// What is said about it, or nothing.
    pub docs: String,
    /// The type.
    pub ty: Type,
    /// It may not be left out.
    pub always: bool,
}

/// The location of named types in a document.
const SCHEMAS: &str = "#/components/schemas/";

impl Type {
    /// Reads the schema in a member.
    pub(super) fn within(node: &Node, member: &str) -> Self {
        node.get(member).map_or(Self::anything(), Self::read)
    }

    /// Reads a schema.
    pub(super) fn read(schema: &Node) -> Self {
        let words = schema.list("x-kind").iter().filter_map(Node::text);
        let kinds = words.filter_map(FdKind::named);
        let ty = Self::read_any(schema).of_kind(kinds.fold(FdKind::ANY, FdKind::and));
        match ty {
            Self::OneOf(mut all) if schema.is("x-open") => {
                all.push(Self::anything());
                Self::OneOf(all)
            }
            Self::Word(_) | Self::Object(_) if schema.is("x-open") => {
                Self::OneOf(vec![ty, Self::anything()])
            }
            ty => ty,
        }
    }

    const fn anything() -> Self {
        Self::Any(String::new())
    }

    fn read_any(schema: &Node) -> Self {
        if let Some(place) = schema.get("$ref").and_then(Node::text) {
            let name = place.strip_prefix(SCHEMAS).map(str::to_owned);
            return name.map_or(Self::anything(), Self::Named);
        }
        if schema.is("x-file-descriptor") {
            let service = schema.get("x-service").and_then(Node::text);
            return match service {
                Some(service) => Self::Endpoint(service.to_owned()),
                None => Self::Descriptor(FdKind::ANY),
            };
        }
        if let Some(word) = schema.get("const") {
            return Self::word(word);
        }
        if let Some(words) = schema.get("enum") {
            return Self::one_of(words.elements().iter().map(Self::word).collect());
        }
        for several in ["anyOf", "oneOf", "allOf"] {
            if let Some(all) = schema.get(several) {
                return Self::one_of(all.elements().iter().map(Self::read).collect());
            }
        }
        match schema.get("type").and_then(Node::text) {
            Some("null") => Self::Null,
            Some("boolean") => Self::Boolean,
            Some("integer") => Self::Integer {
                least: schema.get("minimum").and_then(Node::integer),
                most: schema.get("maximum").and_then(Node::integer),
            },
            Some("number") => Self::Number,
            Some("string") => Self::Text,
            Some("array") => Self::array(schema),
            Some("object") => Self::object(schema),
            _ => Self::Any(schema.text_of("title")),
        }
    }

    fn word(node: &Node) -> Self {
        let word = node.text().map(str::to_owned);
        word.map_or(Self::anything(), Self::Word)
    }

    fn array(schema: &Node) -> Self {
        let length = |name| schema.get(name).and_then(Node::integer);
        let length = length("minItems").filter(|least| Some(*least) == length("maxItems"));
        match schema.get("items") {
            Some(Node::Array(items)) => Self::Tuple(items.iter().map(Self::read).collect()),
            Some(item) => Self::List(Box::new(Self::read(item)), length),
            None if length == Some(0) => Self::Tuple(Vec::new()),
            None => Self::List(Box::new(Self::anything()), length),
        }
    }

    fn object(schema: &Node) -> Self {
        let Some(properties) = schema.get("properties") else {
            return Self::Map(Box::new(Self::within(schema, "additionalProperties")));
        };
        let required = schema.texts_of("required");
        let member = |(name, schema): &(String, Node)| Member {
            name: name.clone(),
            aliases: schema.texts_of("x-aliases"),
            docs: schema.text_of("description"),
            ty: Self::read(schema),
            always: required.contains(name),
        };
        Self::Object(properties.members().iter().map(member).collect())
    }

    fn one_of(mut all: Vec<Self>) -> Self {
        let some = all.len();
        all.retain(|ty| *ty != Self::Null);
        let nullable = all.len() < some;
        let ty = match <[Self; 1]>::try_from(all) {
            Ok([one]) => one,
            Err(all) if all.is_empty() => Self::Null,
            Err(all) => Self::OneOf(all),
        };
        if nullable && ty != Self::Null {
            Self::Nullable(Box::new(ty))
        } else {
            ty
        }
    }

    /// Returns the type whose descriptors are all of this, too. Named types say it themselves.
    fn of_kind(self, kind: FdKind) -> Self {
        if kind == FdKind::ANY {
            return self;
        }
        let inner = |ty: Box<Self>| Box::new(ty.of_kind(kind));
        let all = |all: Vec<Self>| all.into_iter().map(|ty| ty.of_kind(kind)).collect();
        match self {
            Self::Descriptor(known) => Self::Descriptor(known.and(kind)),
            Self::List(item, length) => Self::List(inner(item), length),
            Self::Map(item) => Self::Map(inner(item)),
            Self::Nullable(ty) => Self::Nullable(inner(ty)),
            Self::Tuple(items) => Self::Tuple(all(items)),
            Self::OneOf(types) => Self::OneOf(all(types)),
            other => other,
        }
    }

    /// Returns what each descriptor in it has to be, if it is the same of all.
    pub fn kind(&self) -> FdKind {
        let mut kinds = Vec::new();
        self.any(&mut |ty| {
            if let Self::Descriptor(kind) = ty {
                kinds.push(*kind);
            }
            false
        });
        match kinds.split_first() {
            Some((first, others)) if others.iter().all(|kind| kind == first) => *first,
            _ => FdKind::ANY,
        }
    }

    /// Adds the names of types that it uses, each once.
    pub(super) fn names(&self, names: &mut Vec<String>) {
        self.any(&mut |ty| {
            match ty {
                Self::Named(name) if !names.contains(name) => names.push(name.clone()),
                _ => {}
            }
            false
        });
    }

    /// Returns true if `holds` returns true for the type or for one inside it. Named types are not followed.
    pub fn any(&self, holds: &mut dyn FnMut(&Self) -> bool) -> bool {
        holds(self)
            || match self {
                Self::List(inner, _) | Self::Map(inner) | Self::Nullable(inner) => inner.any(holds),
                Self::Tuple(all) | Self::OneOf(all) => all.iter().any(|ty| ty.any(holds)),
                Self::Object(members) => members.iter().any(|member| member.ty.any(holds)),
                _ => false,
            }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Self], between: &str| {
            for (index, ty) in all.iter().enumerate() {
                let between = if index > 0 { between } else { "" };
                write!(f, "{between}{ty}")?;
            }
            Ok(())
        };
        match self {
            Self::Any(_) => f.write_str("any"),
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("boolean"),
            Self::Integer { .. } => f.write_str("integer"),
            Self::Number => f.write_str("number"),
            Self::Text => f.write_str("string"),
            Self::Descriptor(FdKind::ANY) => f.write_str("descriptor"),
            Self::Descriptor(kind) => write!(f, "descriptor({kind})"),
            Self::Endpoint(service) if service.is_empty() => f.write_str("connection"),
            Self::Endpoint(service) => write!(f, "connection to {service}"),
            Self::Word(word) => write!(f, "{}", serde_json::Value::from(word.as_str())),
            Self::List(item, _) => write!(f, "[{item}, ...]"),
            Self::Map(value) => write!(f, "{{string: {value}}}"),
            Self::Named(name) => f.write_str(name),
            Self::Nullable(ty) => write!(f, "{ty} | null"),
            Self::OneOf(all) => list(f, all, " | "),
            Self::Tuple(all) => {
                f.write_str("[")?;
                list(f, all, ", ")?;
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                put_members(f, members)?;
                f.write_str("}")
            }
        }
    }
}

pub(super) fn put_members(f: &mut fmt::Formatter<'_>, members: &[Member]) -> fmt::Result {
    for (index, member) in members.iter().enumerate() {
        let between = if index > 0 { ", " } else { "" };
        let may_be_absent = if member.always { "" } else { "?" };
        write!(f, "{between}{}{may_be_absent}: {}", member.name, member.ty)?;
    }
    Ok(())
}
