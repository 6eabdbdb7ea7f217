//! The OpenRPC document.

use super::definitions::{Found, Names, short};
#[cfg(feature = "schema")]
use super::foreign::Schemas;
use super::schemas::{SchemaWriter, is_open};
use super::text::Text;
use super::{Answer, Description, Method};
use crate::shape::{Field, Form, Shape, Variant, Way};

/// The version of OpenRPC that the document follows.
const OPENRPC: &str = "1.3.2";

/// Returns true if an endpoint has a rule for calls to this method of this service.
pub(crate) type IsRestricted<'r> = &'r dyn Fn(&str, &str) -> bool;

/// Writes the document of what one endpoint serves behind an empty text.
pub(super) fn document(
    descriptions: &[Description],
    is_restricted: IsRestricted<'_>,
    text: Text,
) -> String {
    let found = find(descriptions);
    #[cfg(feature = "schema")]
    let foreign = Schemas::new(&found.schemas);
    #[cfg(feature = "schema")]
    let named = foreign.named();
    #[cfg(feature = "schema")]
    let taken = named.iter().map(|(name, _)| name.clone()).collect();
    #[cfg(not(feature = "schema"))]
    let taken = Vec::new();
    let names = Names::new(&found.definitions, taken);
    let mut writer = DocumentWriter(SchemaWriter {
        text,
        names: &names,
        #[cfg(feature = "schema")]
        foreign: &foreign,
    });
    writer.text().open(b'{');
    writer.text().member("openrpc", OPENRPC);
    writer.info(descriptions);
    writer.text().open_array("methods");
    for description in descriptions {
        for method in description.methods {
            let restricted = is_restricted(description.name, method.name);
            writer.method(description, method, restricted);
        }
    }
    writer.text().close(b']');
    writer.text().open_object("components");
    writer.text().open_object("schemas");
    let mut seen = Vec::new();
    for (definition, way) in found.definitions {
        let name = names.get(definition, way);
        if !seen.contains(&name) {
            seen.push(name);
            writer.text().key(name);
            writer.0.definition(definition, way);
        }
    }
    #[cfg(feature = "schema")]
    for (name, schema) in named {
        writer.text().key(&name);
        writer.text().value(&schema);
    }
    for _ in 0..3 {
        writer.text().close(b'}');
    }
    writer.0.text.end()
}

/// Finds the types of all methods.
fn find(descriptions: &[Description]) -> Found {
    let mut found = Found::default();
    for description in descriptions {
        for method in description.methods {
            for field in method.parameters {
                found.walk(field.shape(), Way::Read);
            }
            if let Some(answer) = method.answer {
                found.walk(answer.value.shape(), Way::Written);
                found.walk(answer.error.shape(), Way::Written);
            }
        }
    }
    found
}

/// Appends a text to others, unless it is empty.
fn append(all: &mut String, between: &str, text: &str) {
    if !all.is_empty() && !text.is_empty() {
        all.push_str(between);
    }
    all.push_str(text);
}

/// Writes the parts of a document.
struct DocumentWriter<'n>(SchemaWriter<'n>);

impl DocumentWriter<'_> {
    fn text(&mut self) -> &mut Text {
        &mut self.0.text
    }

    fn info(&mut self, descriptions: &[Description]) {
        let (mut title, mut docs) = (String::new(), String::new());
        for description in descriptions {
            append(&mut title, ", ", description.name);
            append(&mut docs, "\n\n", description.docs);
        }
        let version = descriptions.iter().find_map(Description::version);
        let text = self.text();
        text.open_object("info");
        text.member("title", &title);
        text.member("version", version.unwrap_or("0.0.0"));
        text.filled_member("description", &docs);
        if descriptions.iter().any(|one| one.service_version.is_some()) {
            text.open_array("x-services");
            for description in descriptions {
                if let Some(version) = description.service_version {
                    text.open(b'{');
                    text.member("name", description.name);
                    text.member("version", version);
                    text.close(b'}');
                }
            }
            text.close(b']');
        }
        text.close(b'}');
    }

    fn method(&mut self, description: &Description, method: &Method, restricted: bool) {
        let whole = |name: &str| format!("{}.{name}", description.name);
        let first: Vec<_> = method
            .docs
            .lines()
            .take_while(|line| !line.is_empty())
            .collect();
        let summary = first.join(" ");
        let text = self.text();
        text.open(b'{');
        text.member("name", &whole(method.name));
        text.filled_member("summary", &summary);
        if summary.len() < method.docs.len() {
            text.member("description", method.docs);
        }
        text.member("paramStructure", "by-name");
        text.open_array("params");
        for field in method.parameters {
            self.parameter(field);
        }
        self.text().close(b']');
        match &method.answer {
            Some(answer) => self.answer(answer),
            None => self.text().plain_member("x-oneway", &true),
        }
        let text = self.text();
        if !method.aliases.is_empty() {
            text.open_array("x-aliases");
            for name in method.aliases {
                text.string(&whole(name));
            }
            text.close(b']');
        }
        if let Some(version) = method.since {
            text.member("x-since", version);
        }
        if let Some(note) = method.deprecated.or(description.deprecated) {
            text.plain_member("deprecated", &true);
            text.filled_member("x-deprecated", note);
        }
        if restricted {
            text.plain_member("x-restricted", &true);
        }
        text.close(b'}');
    }

    fn parameter(&mut self, field: &Field) {
        let text = self.text();
        text.open(b'{');
        text.member("name", field.name());
        text.filled_member("description", field.docs());
        text.plain_member("required", &field.is_required());
        text.key("schema");
        self.0.of_type(field.ty(), Way::Read);
        self.text().filled_array("x-aliases", field.aliases());
        self.text().close(b'}');
    }

    fn answer(&mut self, answer: &Answer) {
        let name = if answer.kind.stream { "item" } else { "result" };
        self.text().open_object("result");
        self.text().member("name", name);
        self.text().key("schema");
        self.0.of_type(answer.value, Way::Written);
        self.text().close(b'}');
        self.errors(answer);
        if answer.kind.stream {
            self.text().plain_member("x-stream", &true);
        }
    }

    /// Writes a service's errors: the variants of an enum, or one error for another type.
    fn errors(&mut self, answer: &Answer) {
        let name = match answer.error.shape() {
            Shape::Never => return,
            Shape::Defined(definition) => match definition.form() {
                Form::Variants(variants, tag) => return self.variants(variants, tag),
                _ => definition.name().to_owned(),
            },
            // An enum of which only the variants' names are known.
            _ if !answer.kind.codes.is_empty() => return self.codes(answer.kind.codes),
            Shape::Anything(rust) => short(rust),
            _ => "error".to_owned(),
        };
        self.text().open_array("errors");
        self.error(1, &name);
        self.text().key("data");
        self.0.of_type(answer.error, Way::Written);
        self.text().close(b'}');
        self.text().close(b']');
    }

    fn variants(&mut self, variants: &[Variant], tag: Option<[&'static str; 2]>) {
        if is_open(variants) {
            self.text().plain_member("x-open-errors", &true);
        }
        let there = |variant: &&Variant| variant.exists(Way::Written);
        if !variants.iter().any(|variant| there(&variant)) {
            return;
        }
        self.text().open_array("errors");
        for variant in variants.iter().filter(there) {
            self.error(variant.code(), variant.name());
            self.text().key("data");
            self.0.variant(variant, tag, Way::Written);
            self.text().close(b'}');
        }
        self.text().close(b']');
    }

    fn codes(&mut self, names: &[&str]) {
        self.text().open_array("errors");
        for (code, name) in (1..).zip(names) {
            self.error(code, name);
            self.text().close(b'}');
        }
        self.text().close(b']');
    }

    /// Begins an error.
    fn error(&mut self, code: i64, message: &str) {
        let text = self.text();
        text.open(b'{');
        text.plain_member("code", &code);
        text.member("message", message);
    }
}
