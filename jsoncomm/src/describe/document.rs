//! The OpenRPC document.

use super::definitions::{Found, Names, short};
#[cfg(feature = "schema")]
use super::foreign::Schemas;
use super::tree::Tree;
use super::{Answer, Description, Method};
use crate::shape::{Definition, Field, Form, Presence, Shape, Type, Variant, Way};
use std::borrow::Cow;

/// The version of OpenRPC that the document follows.
const OPENRPC: &str = "1.3.2";

/// Returns true if an endpoint has a rule for calls to this method of this service.
pub(crate) type IsRestricted<'r> = &'r dyn Fn(&str, &str) -> bool;

/// Writes the document of what one endpoint serves.
pub(super) fn document(descriptions: &[Description], is_restricted: IsRestricted<'_>) -> Tree {
    let mut found = Found::default();
    let all = descriptions.iter();
    for method in all.flat_map(|description| description.methods) {
        for field in method.parameters {
            found.walk(field.ty().shape(), Way::Read);
        }
        if let Some(answer) = method.answer {
            found.walk(answer.value.shape(), Way::Written);
            found.walk(answer.error.shape(), Way::Written);
        }
    }
    #[cfg(feature = "schema")]
    let foreign = Schemas::new(&found.schemas);
    #[cfg(feature = "schema")]
    let named = foreign.named();
    #[cfg(not(feature = "schema"))]
    let named = Vec::<(String, Tree)>::new();
    let taken = named.iter().map(|(name, _)| name.clone()).collect();
    let writer = DocumentWriter {
        names: Names::new(&found.definitions, taken),
        #[cfg(feature = "schema")]
        foreign,
    };
    let mut seen = Vec::new();
    let mut schemas = Tree::object();
    for (definition, way) in found.definitions {
        let name = writer.names.get(definition, way);
        if !seen.contains(&name) {
            seen.push(name);
            schemas.push_named(name.to_owned(), writer.definition(definition, way));
        }
    }
    for (name, schema) in named {
        schemas.push_named(name, schema);
    }
    let methods = descriptions.iter().flat_map(|description| {
        let methods = description.methods.iter();
        methods.map(|method| {
            let mut tree = writer.method(description, method);
            if is_restricted(description.name, method.name) {
                tree.push("x-restricted", Tree::Bool(true));
            }
            tree
        })
    });
    Tree::object()
        .with("openrpc", Tree::text(OPENRPC))
        .with("info", info(descriptions))
        .with("methods", Tree::Array(methods.collect()))
        .with("components", Tree::object().with("schemas", schemas))
}

fn info(descriptions: &[Description]) -> Tree {
    let joined = |of: fn(&Description) -> &'static str, between: &str| {
        let all = descriptions.iter().map(of);
        let all: Vec<_> = all.filter(|text| !text.is_empty()).collect();
        all.join(between)
    };
    let version = descriptions.iter().find_map(Description::version);
    Tree::object()
        .with("title", Tree::string(joined(Description::name, ", ")))
        .with("version", Tree::text(version.unwrap_or("0.0.0")))
        .with_filled(
            "description",
            Tree::string(joined(Description::docs, "\n\n")),
        )
}

/// Writes the parts of a document.
struct DocumentWriter {
    names: Names,
    #[cfg(feature = "schema")]
    foreign: Schemas,
}

impl DocumentWriter {
    fn method(&self, description: &Description, method: &Method) -> Tree {
        let whole = |name: &str| Tree::string(format!("{}.{name}", description.name));
        let mut tree = Tree::object().with("name", whole(method.name));
        let first = method.docs.split("\n\n").next().unwrap_or_default();
        tree.push_filled("summary", Tree::string(first.replace('\n', " ")));
        if first.len() < method.docs.len() {
            tree.push("description", Tree::text(method.docs));
        }
        let params = method.parameters.iter();
        let params = params.map(|field| self.parameter(field));
        tree.push("paramStructure", Tree::text("by-name"));
        tree.push("params", Tree::Array(params.collect()));
        match &method.answer {
            Some(answer) => self.answer(&mut tree, answer),
            None => tree.push("x-oneway", Tree::Bool(true)),
        }
        let aliases = method.aliases.iter().map(|name| whole(name));
        tree.push_filled("x-aliases", Tree::Array(aliases.collect()));
        if let Some(note) = method.deprecated.or(description.deprecated) {
            tree.push("deprecated", Tree::Bool(true));
            tree.push_filled("x-deprecated", Tree::text(note));
        }
        tree
    }

    fn parameter(&self, field: &Field) -> Tree {
        let tree = Tree::object()
            .with("name", Tree::text(field.name()))
            .with_filled("description", Tree::text(field.docs()))
            .with("required", Tree::Bool(field.is_required()))
            .with("schema", self.shape(field.ty(), Way::Read));
        known_as(tree, field.aliases())
    }

    fn answer(&self, tree: &mut Tree, answer: &Answer) {
        let name = if answer.kind.stream { "item" } else { "result" };
        let schema = self.shape(answer.value, Way::Written);
        let result = Tree::object().with("name", Tree::text(name));
        tree.push("result", result.with("schema", schema));
        tree.push_filled("errors", Tree::Array(self.errors(answer)));
        if answer.kind.stream {
            tree.push("x-stream", Tree::Bool(true));
        }
    }

    /// Writes a service's errors: the variants of an enum, or one error for another type.
    fn errors(&self, answer: &Answer) -> Vec<Tree> {
        let error = |code: i64, message: &str, data: Option<Tree>| {
            let tree = Tree::object()
                .with("code", Tree::Integer(code.into()))
                .with("message", Tree::string(message.to_owned()));
            match data {
                Some(data) => tree.with("data", data),
                None => tree,
            }
        };
        let whole = || Some(self.shape(answer.error, Way::Written));
        match answer.error.shape() {
            Shape::Never => Vec::new(),
            Shape::Defined(definition) => match definition.form() {
                Form::Variants(variants, tag) => {
                    let variants = variants.iter().filter(|v| v.exists(Way::Written));
                    let one = |v: &Variant| {
                        error(v.code(), v.name(), Some(self.variant(v, tag, Way::Written)))
                    };
                    variants.map(one).collect()
                }
                _ => vec![error(1, definition.name(), whole())],
            },
            // An enum of which only the variants' names are known.
            _ if !answer.kind.codes.is_empty() => {
                let codes = (1..).zip(answer.kind.codes);
                codes.map(|(code, name)| error(code, name, None)).collect()
            }
            Shape::Anything(rust) => vec![error(1, &short(rust), whole())],
            _ => vec![error(1, "error", whole())],
        }
    }

    /// Writes the schema of a type, or a reference to it, and what is asked of the descriptors in it.
    fn shape(&self, ty: Type, way: Way) -> Tree {
        let schema = self.any_shape(ty, way);
        let words: Vec<_> = ty.kind().words().map(Tree::text).collect();
        if words.is_empty() {
            return schema;
        }
        Tree::Object(members(schema)).with("x-kind", Tree::Array(words))
    }

    fn any_shape(&self, ty: Type, way: Way) -> Tree {
        match ty.shape() {
            Shape::Anything(rust) => Tree::object().with("title", Tree::string(short(rust))),
            Shape::Never => never(),
            Shape::Null => of_type("null"),
            Shape::Boolean => of_type("boolean"),
            Shape::Integer { least, most } => of_type("integer")
                .with("minimum", Tree::Integer(least))
                .with("maximum", Tree::Natural(most)),
            Shape::Number => of_type("number"),
            Shape::Text => of_type("string"),
            Shape::Descriptor(what) => of_type("integer")
                .with("minimum", Tree::Integer(0))
                .with("x-file-descriptor", Tree::Bool(true))
                .with_filled("description", Tree::text(what)),
            Shape::Endpoint(service) => of_type("integer")
                .with("minimum", Tree::Integer(0))
                .with("x-file-descriptor", Tree::Bool(true))
                .with("x-service", Tree::text(service))
                .with(
                    "description",
                    Tree::text("a connected unix seqpacket socket"),
                ),
            Shape::Optional(item) => any_of(vec![self.shape(item, way), of_type("null")]),
            Shape::List {
                item,
                length,
                distinct,
            } => {
                let mut tree = of_type("array").with("items", self.shape(item, way));
                if let Some(length) = length {
                    tree.push("minItems", Tree::count(length));
                    tree.push("maxItems", Tree::count(length));
                }
                if distinct {
                    tree.push("uniqueItems", Tree::Bool(true));
                }
                tree
            }
            Shape::Tuple(items) => {
                let items = items.iter().map(|item| self.shape(*item, way));
                tuple(items.map(|item| (Presence::Always, item)).collect())
            }
            Shape::Map(item) => {
                of_type("object").with("additionalProperties", self.shape(item, way))
            }
            Shape::Defined(definition) => {
                let name = self.names.get(definition, way);
                let place = format!("#/components/schemas/{name}");
                Tree::object().with("$ref", Tree::string(place))
            }
            #[cfg(feature = "schema")]
            Shape::Schema(schema) => self.foreign.schema(schema),
        }
    }

    fn definition(&self, definition: &Definition, way: Way) -> Tree {
        described(self.form(&definition.form(), way), definition.docs())
    }

    fn form(&self, form: &Form, way: Way) -> Tree {
        match *form {
            Form::Unit => of_type("null"),
            Form::Whole(ty) => self.shape(ty, way),
            Form::Elements(fields) => {
                let one = |field: &Field| (field.in_array(way), self.field(field, way));
                tuple(fields.iter().map(one).collect())
            }
            Form::Members(fields) => object(fields.iter().map(|field| {
                let schema = self.field(field, way);
                (field.name(), field.presence(way), schema)
            })),
            Form::Variants(variants, tag) => self.variants(variants, tag, way),
            Form::Other => Tree::object(),
        }
    }

    fn field(&self, field: &Field, way: Way) -> Tree {
        let schema = described(self.shape(field.ty(), way), field.docs());
        known_as(schema, field.aliases())
    }

    fn variants(&self, all: &[Variant], tag: Option<[&'static str; 2]>, way: Way) -> Tree {
        let all: Vec<_> = all.iter().filter(|v| v.exists(way)).collect();
        let only_name = |v: &&Variant| {
            matches!(v.form(), Form::Unit) && v.docs().is_empty() && v.aliases().is_empty()
        };
        if all.is_empty() {
            never()
        } else if tag.is_none() && all.iter().all(only_name) {
            let names = all.iter().map(|v| Tree::text(v.name())).collect();
            of_type("string").with("enum", Tree::Array(names))
        } else {
            any_of(all.iter().map(|v| self.variant(v, tag, way)).collect())
        }
    }

    fn variant(&self, variant: &Variant, tag: Option<[&'static str; 2]>, way: Way) -> Tree {
        let name = Tree::object().with("const", Tree::text(variant.name()));
        let content = || self.form(&variant.form(), way);
        let tree = match (variant.form(), tag) {
            (Form::Other, _) => content(),
            (Form::Unit, None) => name,
            (_, None) => object([(variant.name(), Presence::Always, content())]),
            (form, Some([tag, holds])) => object([
                (tag, Presence::Always, name),
                (holds, form.beside_tag(way), content()),
            ]),
        };
        known_as(described(tree, variant.docs()), variant.aliases())
    }
}

/// Writes an object with these members.
fn object(all: impl IntoIterator<Item = (&'static str, Presence, Tree)>) -> Tree {
    let (mut members, mut always) = (Tree::object(), Vec::new());
    for (name, presence, schema) in all {
        if presence == Presence::Always {
            always.push(Tree::text(name));
        }
        if presence != Presence::Never {
            members.push(name, schema);
        }
    }
    of_type("object")
        .with("properties", members)
        .with_filled("required", Tree::Array(always))
}

/// Writes an array of these schemas.
fn tuple(mut items: Vec<(Presence, Tree)>) -> Tree {
    items.retain(|(presence, _)| *presence != Presence::Never);
    let always = items.iter().filter(|item| item.0 == Presence::Always);
    let (least, most) = (always.count(), items.len());
    let items = items.into_iter().map(|(_, item)| item).collect();
    of_type("array")
        // Draft 7 does not allow an empty list of schemas.
        .with_filled("items", Tree::Array(items))
        .with("minItems", Tree::count(least))
        .with("maxItems", Tree::count(most))
}

fn any_of(all: Vec<Tree>) -> Tree {
    Tree::object().with("anyOf", Tree::Array(all))
}

fn never() -> Tree {
    Tree::object().with("not", Tree::object())
}

/// The schema of all values of this type of JSON.
fn of_type(name: &'static str) -> Tree {
    Tree::object().with("type", Tree::text(name))
}

/// Adds a description to a schema.
fn described(schema: Tree, docs: &'static str) -> Tree {
    if docs.is_empty() {
        return schema;
    }
    let mut all = members(schema);
    all.retain(|(name, _)| name != "description");
    all.insert(0, ("description".into(), Tree::text(docs)));
    Tree::Object(all)
}

/// Adds older names, if there are any.
fn known_as(tree: Tree, aliases: &[&'static str]) -> Tree {
    if aliases.is_empty() {
        return tree;
    }
    let aliases = aliases.iter().copied().map(Tree::text).collect();
    Tree::Object(members(tree)).with("x-aliases", Tree::Array(aliases))
}

/// Returns the members of a schema to which more are added. A reference is wrapped, since members beside it are ignored.
fn members(schema: Tree) -> Vec<(Cow<'static, str>, Tree)> {
    match schema {
        Tree::Object(members) if members.iter().all(|(name, _)| name != "$ref") => members,
        other => vec![("allOf".into(), Tree::Array(vec![other]))],
    }
}
