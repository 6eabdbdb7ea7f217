//! The description of a service: the part of an OpenRPC document that the commands use.

use std::fmt;

use jsoncomm::fds::FdKind;

use crate::json::Json;

/// The services at an address.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) title: String,
    pub(crate) methods: Vec<Method>,
    /// The named types.
    pub(crate) types: Vec<Definition>,
}

#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) ty: Type,
}

#[derive(Debug)]
pub(crate) struct Method {
    /// The full name.
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) docs: String,
    pub(crate) params: Vec<Member>,
    /// `None` for a one-way method.
    pub(crate) result: Option<Type>,
    pub(crate) errors: Vec<Failing>,
    pub(crate) stream: bool,
    pub(crate) deprecated: bool,
    /// The server has a rule for callers of this method.
    pub(crate) restricted: bool,
}

/// An error of a service.
#[derive(Debug)]
pub(crate) struct Failing {
    pub(crate) code: String,
    pub(crate) name: String,
    pub(crate) data: Type,
}

/// A parameter, or a member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) ty: Type,
    pub(crate) always: bool,
}

/// A type, from its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// Any value, or an unknown schema.
    Any,
    Null,
    Boolean,
    Integer {
        least: Option<i128>,
        most: Option<i128>,
    },
    Number,
    Text,
    /// A descriptor that is all of this.
    Descriptor(FdKind),
    /// A connection to a service of this name; empty if it is not told.
    Endpoint(String),
    /// This string.
    Word(String),
    List(Box<Type>),
    Tuple(Vec<Type>),
    Map(Box<Type>),
    Object(Vec<Member>),
    Named(String),
    Nullable(Box<Type>),
    OneOf(Vec<Type>),
}

/// The location of named types in a document.
const SCHEMAS: &str = "#/components/schemas/";

impl Document {
    /// Parses a document; returns `None` if it is not one.
    pub(crate) fn read(json: &Json<'_>) -> Option<Self> {
        let methods = json.get("methods")?.elements().iter();
        let schemas = json.get("components").and_then(|all| all.get("schemas"));
        let schemas = schemas.map_or(&[][..], Json::members);
        let title = json.get("info").and_then(|info| info.get("title"));
        Some(Self {
            title: title.and_then(Json::text).unwrap_or_default(),
            methods: methods.filter_map(Method::read).collect(),
            types: schemas
                .iter()
                .map(|(name, schema)| Definition {
                    name: Json::Scalar(name.clone()).text().unwrap_or_default(),
                    docs: text(schema, "description"),
                    ty: Type::read(schema),
                })
                .collect(),
        })
    }

    /// Returns the types that these methods use, directly or not, in the document's order.
    pub(crate) fn types_of<'d>(&'d self, methods: &[&Method]) -> Vec<&'d Definition> {
        let mut names = Vec::new();
        for method in methods {
            let params = method.params.iter().map(|member| &member.ty);
            let errors = method.errors.iter().map(|error| &error.data);
            for ty in params.chain(&method.result).chain(errors) {
                ty.names(&mut names);
            }
        }
        self.named(names)
    }

    /// Returns true if a value of that type contains descriptors, also inside named types.
    pub(crate) fn has_descriptor(&self, ty: &Type) -> bool {
        let mut names = Vec::new();
        ty.names(&mut names);
        let is_one =
            |ty: &Type| ty.any(&mut |ty| matches!(ty, Type::Descriptor(_) | Type::Endpoint(_)));
        is_one(ty) || self.named(names).iter().any(|one| is_one(&one.ty))
    }

    /// Returns the type that a named one stands for; `None` if that never ends, or is not described.
    pub(crate) fn meaning<'d>(&'d self, mut ty: &'d Type) -> Option<&'d Type> {
        for _ in 0..=self.types.len() {
            let Type::Named(name) = ty else {
                return Some(ty);
            };
            ty = &self.types.iter().find(|one| one.name == *name)?.ty;
        }
        None
    }

    /// Returns the types of these names, and those that they use, in the document's order.
    fn named(&self, mut names: Vec<String>) -> Vec<&Definition> {
        let mut next = 0;
        while let Some(name) = names.get(next) {
            if let Some(found) = self.types.iter().find(|one| one.name == *name) {
                found.ty.names(&mut names);
            }
            next += 1;
        }
        let named = |one: &&Definition| names.contains(&one.name);
        self.types.iter().filter(named).collect()
    }
}

impl Method {
    fn read(json: &Json<'_>) -> Option<Self> {
        let params = json.get("params").map_or(&[][..], Json::elements);
        let errors = json.get("errors").map_or(&[][..], Json::elements);
        let summary = text(json, "summary");
        let docs = Some(text(json, "description")).filter(|docs| !docs.is_empty());
        let result = json.get("result").map(|result| schema_of(result, "schema"));
        let is = |name| json.get(name).is_some_and(Json::is_true);
        Some(Self {
            name: json.get("name")?.text()?,
            docs: docs.unwrap_or_else(|| summary.clone()),
            summary,
            params: params.iter().filter_map(parameter).collect(),
            result: result.filter(|_| !is("x-oneway")),
            errors: errors
                .iter()
                .map(|error| Failing {
                    code: error.get("code").map(Json::to_string).unwrap_or_default(),
                    name: text(error, "message"),
                    data: schema_of(error, "data"),
                })
                .collect(),
            stream: is("x-stream"),
            deprecated: is("deprecated"),
            restricted: is("x-restricted"),
        })
    }

    /// Returns the service's name and the method's short name.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.name.rsplit_once('.').unwrap_or(("", &self.name))
    }
}

fn parameter(json: &Json<'_>) -> Option<Member> {
    Some(Member {
        name: json.get("name")?.text()?,
        docs: text(json, "description"),
        ty: schema_of(json, "schema"),
        always: json.get("required").is_some_and(Json::is_true),
    })
}

fn text(json: &Json<'_>, member: &str) -> String {
    json.get(member).and_then(Json::text).unwrap_or_default()
}

fn schema_of(json: &Json<'_>, member: &str) -> Type {
    json.get(member).map_or(Type::Any, Type::read)
}

impl Type {
    fn read(schema: &Json<'_>) -> Self {
        let words = schema.get("x-kind").map_or(&[][..], Json::elements);
        let words = words.iter().filter_map(Json::text);
        let kinds = words.filter_map(|word| FdKind::named(&word));
        Self::read_any(schema).of_kind(kinds.fold(FdKind::ANY, FdKind::and))
    }

    fn read_any(schema: &Json<'_>) -> Self {
        if let Some(place) = schema.get("$ref").and_then(Json::text) {
            let name = place.strip_prefix(SCHEMAS).map(str::to_owned);
            return name.map_or(Self::Any, Self::Named);
        }
        if schema.get("x-file-descriptor").is_some_and(Json::is_true) {
            let service = schema.get("x-service").and_then(Json::text);
            return service.map_or(Self::Descriptor(FdKind::ANY), Self::Endpoint);
        }
        if let Some(word) = schema.get("const") {
            return word.text().map_or(Self::Any, Self::Word);
        }
        if let Some(words) = schema.get("enum") {
            let word = |word: &Json<'_>| word.text().map_or(Self::Any, Self::Word);
            return Self::one_of(words.elements().iter().map(word).collect());
        }
        for several in ["anyOf", "oneOf", "allOf"] {
            if let Some(all) = schema.get(several) {
                return Self::one_of(all.elements().iter().map(Self::read).collect());
            }
        }
        match schema.get("type").and_then(Json::text).as_deref() {
            Some("null") => Self::Null,
            Some("boolean") => Self::Boolean,
            Some("integer") => Self::Integer {
                least: bound(schema, "minimum"),
                most: bound(schema, "maximum"),
            },
            Some("number") => Self::Number,
            Some("string") => Self::Text,
            Some("array") => match schema.get("items") {
                Some(Json::Array(items)) => Self::Tuple(items.iter().map(Self::read).collect()),
                Some(item) => Self::List(Box::new(Self::read(item))),
                None => Self::List(Box::new(Self::Any)),
            },
            Some("object") => Self::object(schema),
            _ => Self::Any,
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
            Self::List(item) => Self::List(inner(item)),
            Self::Map(item) => Self::Map(inner(item)),
            Self::Nullable(ty) => Self::Nullable(inner(ty)),
            Self::Tuple(items) => Self::Tuple(all(items)),
            Self::OneOf(types) => Self::OneOf(all(types)),
            other => other,
        }
    }

    /// Returns what each descriptor in it has to be, if it is the same of all.
    pub(crate) fn kind(&self) -> FdKind {
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

    fn object(schema: &Json<'_>) -> Self {
        let Some(properties) = schema.get("properties") else {
            return Self::Map(Box::new(schema_of(schema, "additionalProperties")));
        };
        let required = schema.get("required").map_or(&[][..], Json::elements);
        let required: Vec<String> = required.iter().filter_map(Json::text).collect();
        let member = |(key, schema): &(_, Json<'_>)| {
            let name = Json::Scalar(std::borrow::Cow::clone(key)).text()?;
            Some(Member {
                always: required.contains(&name),
                name,
                docs: text(schema, "description"),
                ty: Self::read(schema),
            })
        };
        Self::Object(properties.members().iter().filter_map(member).collect())
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

    /// Adds the names of types that it uses, each once.
    fn names(&self, names: &mut Vec<String>) {
        self.any(&mut |ty| {
            match ty {
                Self::Named(name) if !names.contains(name) => names.push(name.clone()),
                _ => {}
            }
            false
        });
    }

    /// Returns true if `holds` returns true for the type or for one inside it. Named types are not followed.
    pub(crate) fn any(&self, holds: &mut dyn FnMut(&Self) -> bool) -> bool {
        holds(self)
            || match self {
                Self::List(inner) | Self::Map(inner) | Self::Nullable(inner) => inner.any(holds),
                Self::Tuple(all) | Self::OneOf(all) => all.iter().any(|ty| ty.any(holds)),
                Self::Object(members) => members.iter().any(|member| member.ty.any(holds)),
                _ => false,
            }
    }
}

fn bound(schema: &Json<'_>, member: &str) -> Option<i128> {
    match schema.get(member)? {
        Json::Scalar(number) => number.parse().ok(),
        Json::Array(_) | Json::Object(_) => None,
    }
}

impl fmt::Display for Type {
    /// Formats the signature for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Self], between: &str| {
            for (index, ty) in all.iter().enumerate() {
                let between = if index > 0 { between } else { "" };
                write!(f, "{between}{ty}")?;
            }
            Ok(())
        };
        match self {
            Self::Any => f.write_str("any"),
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("boolean"),
            Self::Integer { .. } => f.write_str("integer"),
            Self::Number => f.write_str("number"),
            Self::Text => f.write_str("string"),
            Self::Descriptor(FdKind::ANY) => f.write_str("descriptor"),
            Self::Descriptor(kind) => write!(f, "descriptor({kind})"),
            Self::Endpoint(service) if service.is_empty() => f.write_str("connection"),
            Self::Endpoint(service) => write!(f, "connection to {service}"),
            Self::Word(word) => write!(f, "{}", Json::string(word)),
            Self::List(item) => write!(f, "[{item}, ...]"),
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

fn put_members(f: &mut fmt::Formatter<'_>, members: &[Member]) -> fmt::Result {
    for (index, member) in members.iter().enumerate() {
        let between = if index > 0 { ", " } else { "" };
        let may_be_absent = if member.always { "" } else { "?" };
        write!(f, "{between}{}{may_be_absent}: {}", member.name, member.ty)?;
    }
    Ok(())
}

impl fmt::Display for Method {
    /// Formats the type on one line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        put_members(f, &self.params)?;
        f.write_str(")")?;
        match &self.result {
            None => f.write_str(", no reply"),
            Some(item) if self.stream => write!(f, " -> {item}, again and again"),
            Some(result) => write!(f, " -> {result}"),
        }
    }
}
