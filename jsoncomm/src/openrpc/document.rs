//! A document and its methods.

use std::fmt;

use super::node::Node;
use super::types::{Member, Type, put_members};

/// What is served at an address, or the methods of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The names of the services.
    pub title: String,
    /// The versions of services that have one, by their names.
    pub versions: Vec<(String, String)>,
    /// The methods, in the order of the document.
    pub methods: Vec<Method>,
    /// The named types.
    pub types: Vec<Definition>,
}

/// A type that has a name in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// The name.
    pub name: String,
    /// What is said about it, or nothing.
    pub docs: String,
    /// What it stands for.
    pub ty: Type,
}

/// A method.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Method {
    /// The full name.
    pub name: String,
    /// Older full names, under which it can be called as well.
    pub aliases: Vec<String>,
    /// The version of its service that has added it.
    pub since: Option<String>,
    /// The first paragraph of what is said about it, or nothing.
    pub summary: String,
    /// All that is said about it, or nothing.
    pub docs: String,
    /// The arguments.
    pub params: Vec<Member>,
    /// The result, or an item of the stream; `None` for a one-way method.
    pub result: Option<Type>,
    /// The errors of the service.
    pub errors: Vec<Failure>,
    /// Clients take errors that are not described.
    pub open_errors: bool,
    /// It replies with a stream.
    pub stream: bool,
    /// It should no longer be called.
    pub deprecated: bool,
    /// A rule of the endpoint decides who may call it.
    pub restricted: bool,
}

/// An error of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The number, from 1 up.
    pub code: i128,
    /// The name.
    pub name: String,
    /// What travels with it.
    pub data: Type,
}

/// The text is no OpenRPC document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotDocument {
    /// It is not JSON.
    #[error("the document is not JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// It has no list of methods.
    #[error("the document has no list of methods")]
    NoMethods,
}

impl Document {
    /// Reads a document. What it has beside what this library writes is skipped; a schema of an unknown form is
    /// [`Type::Any`].
    ///
    /// # Errors
    ///
    /// [`NotDocument`] if it is none.
    pub fn parse(text: &str) -> Result<Self, NotDocument> {
        let node: Node = serde_json::from_str(text).map_err(NotDocument::Json)?;
        let Some(Node::Array(methods)) = node.get("methods") else {
            return Err(NotDocument::NoMethods);
        };
        let schemas = node.get("components").and_then(|all| all.get("schemas"));
        let schemas = schemas.map_or(&[][..], Node::members);
        let define = |(name, schema): &(String, Node)| Definition {
            name: name.clone(),
            docs: schema.text_of("description"),
            ty: Type::read(schema),
        };
        let services = node
            .get("info")
            .map_or(&[][..], |info| info.list("x-services"));
        let version = |one: &Node| (one.text_of("name"), one.text_of("version"));
        Ok(Self {
            versions: services.iter().map(version).collect(),
            title: node
                .get("info")
                .map(|info| info.text_of("title"))
                .unwrap_or_default(),
            methods: methods.iter().filter_map(Method::read).collect(),
            types: schemas.iter().map(define).collect(),
        })
    }

    /// Returns the types that these methods use, directly or not, in the document's order.
    pub fn types_of<'d>(&'d self, methods: &[&Method]) -> Vec<&'d Definition> {
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
    pub fn has_descriptor(&self, ty: &Type) -> bool {
        let mut names = Vec::new();
        ty.names(&mut names);
        let is_one =
            |ty: &Type| ty.any(&mut |ty| matches!(ty, Type::Descriptor(_) | Type::Endpoint(_)));
        is_one(ty) || self.named(names).iter().any(|one| is_one(&one.ty))
    }

    /// Returns the type that a named one stands for; `None` if that never ends, or is not described.
    pub fn meaning<'d>(&'d self, mut ty: &'d Type) -> Option<&'d Type> {
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
    fn read(node: &Node) -> Option<Self> {
        let summary = node.text_of("summary");
        let docs = Some(node.text_of("description")).filter(|docs| !docs.is_empty());
        let result = node
            .get("result")
            .map(|result| Type::within(result, "schema"));
        let fail = |error: &Node| Failure {
            code: error
                .get("code")
                .and_then(Node::integer)
                .unwrap_or_default(),
            name: error.text_of("message"),
            data: Type::within(error, "data"),
        };
        Some(Self {
            name: node.get("name")?.text()?.to_owned(),
            aliases: node.texts_of("x-aliases"),
            since: node.get("x-since").and_then(Node::text).map(str::to_owned),
            docs: docs.unwrap_or_else(|| summary.clone()),
            summary,
            params: node.list("params").iter().filter_map(parameter).collect(),
            result: result.filter(|_| !node.is("x-oneway")),
            errors: node.list("errors").iter().map(fail).collect(),
            open_errors: node.is("x-open-errors"),
            stream: node.is("x-stream"),
            deprecated: node.is("deprecated"),
            restricted: node.is("x-restricted"),
        })
    }

    /// Returns the service's name and the method's short name.
    pub fn parts(&self) -> (&str, &str) {
        self.name.rsplit_once('.').unwrap_or(("", &self.name))
    }
}

fn parameter(node: &Node) -> Option<Member> {
    Some(Member {
        name: node.get("name")?.text()?.to_owned(),
        aliases: node.texts_of("x-aliases"),
        docs: node.text_of("description"),
        ty: Type::within(node, "schema"),
        always: node.is("required"),
    })
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
