//! JSON Schemas of types.

use super::definitions::{Names, short};
#[cfg(feature = "schema")]
use super::foreign::Schemas;
use super::text::Text;
use crate::fds::FdKind;
use crate::shape::{Definition, Field, Form, Presence, Shape, Type, Variant, Way};

/// Writes schemas.
pub(super) struct SchemaWriter<'n> {
    pub(super) text: Text,
    /// Under which name another schema is referred to.
    pub(super) names: &'n Names,
    #[cfg(feature = "schema")]
    pub(super) foreign: &'n Schemas,
}

/// What is said of a place beside the schema of its type.
#[derive(Clone, Copy, Default)]
pub(super) struct Notes {
    docs: &'static str,
    kind: FdKind,
    aliases: &'static [&'static str],
}

impl Notes {
    fn of_field(field: &Field) -> Self {
        Self {
            docs: field.docs(),
            aliases: field.aliases(),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.docs.is_empty() && self.kind == FdKind::ANY && self.aliases.is_empty()
    }
}

/// An element of an array: whether it is always there, its type, and what is said of it.
type Element = (Presence, Type, Notes);

/// Returns true if an enum has a variant for those that it does not know, which is only read.
pub(super) fn is_open(variants: &[Variant]) -> bool {
    let mut all = variants.iter();
    all.any(|variant| matches!(variant.form(), Form::Other))
}

impl SchemaWriter<'_> {
    /// Writes the schema of a struct or enum.
    pub(super) fn definition(&mut self, definition: &Definition, way: Way) {
        let docs = definition.docs();
        let notes = Notes {
            docs,
            ..Notes::default()
        };
        self.form(definition.form(), way, notes);
    }

    /// Writes the schema of a type, or a reference to it.
    pub(super) fn of_type(&mut self, ty: Type, way: Way) {
        self.ty(ty, way, Notes::default());
    }

    fn ty(&mut self, ty: Type, way: Way, notes: Notes) {
        let kind = ty.kind();
        self.shape(ty.shape(), way, Notes { kind, ..notes });
    }

    fn shape(&mut self, shape: Shape, way: Way, notes: Notes) {
        match shape {
            Shape::Tuple(items) => {
                let mut all = Vec::new();
                for item in items {
                    all.push((Presence::Always, *item, Notes::default()));
                }
                return self.tuple(&all, way, notes);
            }
            #[cfg(feature = "schema")]
            Shape::Schema(schema) if notes.is_empty() => {
                return self.text.value(&self.foreign.schema(schema));
            }
            _ => {}
        }
        self.open(notes);
        match shape {
            Shape::Anything(rust) => self.text.member("title", &short(rust)),
            Shape::Never => self.never(),
            Shape::Null => self.json_type("null"),
            Shape::Boolean => self.json_type("boolean"),
            Shape::Integer { least, most } => {
                self.json_type("integer");
                self.text.plain_member("minimum", &least);
                self.text.plain_member("maximum", &most);
            }
            Shape::Number => self.json_type("number"),
            Shape::Text => self.json_type("string"),
            Shape::Descriptor(what) => self.descriptor(None, what, notes),
            Shape::Endpoint(service) => {
                self.descriptor(Some(service), "a connected unix seqpacket socket", notes);
            }
            Shape::Optional(item) => {
                self.text.open_array("anyOf");
                self.of_type(item, way);
                self.shape(Shape::Null, way, Notes::default());
                self.text.close(b']');
            }
            Shape::List {
                item,
                length,
                distinct,
            } => {
                self.json_type("array");
                self.text.key("items");
                self.of_type(item, way);
                if let Some(length) = length {
                    self.text.plain_member("minItems", &length);
                    self.text.plain_member("maxItems", &length);
                }
                if distinct {
                    self.text.plain_member("uniqueItems", &true);
                }
            }
            Shape::Map(item) => {
                self.json_type("object");
                self.text.key("additionalProperties");
                self.of_type(item, way);
            }
            Shape::Defined(definition) => self.reference(definition, way, notes),
            #[cfg(feature = "schema")]
            Shape::Schema(schema) => {
                self.text.open_array("allOf");
                self.text.value(&self.foreign.schema(schema));
                self.text.close(b']');
            }
            Shape::Tuple(_) => {}
        }
        self.close(notes);
    }

    fn descriptor(&mut self, service: Option<&str>, what: &str, notes: Notes) {
        self.json_type("integer");
        self.text.plain_member("minimum", &0);
        self.text.plain_member("x-file-descriptor", &true);
        if let Some(service) = service {
            self.text.member("x-service", service);
        }
        if notes.docs.is_empty() {
            self.text.filled_member("description", what);
        }
    }

    /// Writes a reference. It is wrapped if there are notes, since members beside it are ignored.
    fn reference(&mut self, definition: &'static Definition, way: Way, notes: Notes) {
        let name = self.names.get(definition, way);
        let place = format!("#/components/schemas/{name}");
        if notes.is_empty() {
            return self.text.member("$ref", &place);
        }
        self.text.open_array("allOf");
        self.text.open(b'{');
        self.text.member("$ref", &place);
        self.text.close(b'}');
        self.text.close(b']');
    }

    fn form(&mut self, form: Form, way: Way, notes: Notes) {
        match form {
            Form::Whole(ty) => return self.ty(ty, way, notes),
            Form::Elements(fields) => {
                let mut all = Vec::new();
                for field in fields {
                    let presence = field.in_array(way);
                    if presence != Presence::Never {
                        all.push((presence, field.ty(), Notes::of_field(field)));
                    }
                }
                return self.tuple(&all, way, notes);
            }
            _ => {}
        }
        self.open(notes);
        match form {
            Form::Unit => self.json_type("null"),
            Form::Members(fields) => self.members(fields, way),
            Form::Variants(variants, tag) => self.variants(variants, tag, way),
            Form::Other | Form::Whole(_) | Form::Elements(_) => {}
        }
        self.close(notes);
    }

    fn members(&mut self, fields: &[Field], way: Way) {
        self.json_type("object");
        self.text.open_object("properties");
        let mut always = Vec::new();
        for field in fields {
            let presence = field.presence(way);
            if presence == Presence::Always {
                always.push(field.name());
            }
            if presence != Presence::Never {
                self.text.key(field.name());
                self.ty(field.ty(), way, Notes::of_field(field));
            }
        }
        self.text.close(b'}');
        self.text.filled_array("required", &always);
    }

    fn tuple(&mut self, items: &[Element], way: Way, notes: Notes) {
        let always = items.iter().filter(|item| item.0 == Presence::Always);
        let (least, most) = (always.count(), items.len());
        self.open(notes);
        self.json_type("array");
        // Draft 7 does not allow an empty list of schemas.
        if most > 0 {
            self.text.open_array("items");
            for (_, ty, notes) in items {
                self.ty(*ty, way, *notes);
            }
            self.text.close(b']');
        }
        self.text.plain_member("minItems", &least);
        self.text.plain_member("maxItems", &most);
        self.close(notes);
    }

    fn variants(&mut self, all: &[Variant], tag: Option<[&'static str; 2]>, way: Way) {
        let open = way == Way::Written && is_open(all);
        let all: Vec<_> = all.iter().filter(|v| v.exists(way)).collect();
        let only_name = |v: &&Variant| {
            matches!(v.form(), Form::Unit) && v.docs().is_empty() && v.aliases().is_empty()
        };
        if all.is_empty() {
            self.never();
        } else if tag.is_none() && all.iter().all(only_name) {
            self.json_type("string");
            self.text.open_array("enum");
            for variant in all {
                self.text.string(variant.name());
            }
            self.text.close(b']');
        } else {
            self.text.open_array("anyOf");
            for variant in all {
                self.variant(variant, tag, way);
            }
            self.text.close(b']');
        }
        if open {
            self.text.plain_member("x-open", &true);
        }
    }

    /// Writes the schema of a variant.
    pub(super) fn variant(&mut self, variant: &Variant, tag: Option<[&'static str; 2]>, way: Way) {
        let (name, form) = (variant.name(), variant.form());
        let notes = Notes {
            docs: variant.docs(),
            aliases: variant.aliases(),
            ..Notes::default()
        };
        if matches!(form, Form::Other) {
            return self.form(form, way, notes);
        }
        self.open(notes);
        if let (Form::Unit, None) = (form, tag) {
            self.text.member("const", name);
            return self.close(notes);
        }
        let (tag, holds, presence) = match tag {
            Some([tag, holds]) => (Some(tag), holds, form.beside_tag(way)),
            None => (None, name, Presence::Always),
        };
        self.json_type("object");
        self.text.open_object("properties");
        let mut always = Vec::new();
        if let Some(tag) = tag {
            always.push(tag);
            self.text.open_object(tag);
            self.text.member("const", name);
            self.text.close(b'}');
        }
        if presence == Presence::Always {
            always.push(holds);
        }
        if presence != Presence::Never {
            self.text.key(holds);
            self.form(form, way, Notes::default());
        }
        self.text.close(b'}');
        self.text.filled_array("required", &always);
        self.close(notes);
    }

    fn json_type(&mut self, name: &str) {
        self.text.member("type", name);
    }

    /// Says that there is no value.
    fn never(&mut self) {
        self.text.open_object("not");
        self.text.close(b'}');
    }

    /// Opens a schema, with the first of its notes.
    fn open(&mut self, notes: Notes) {
        self.text.open(b'{');
        self.text.filled_member("description", notes.docs);
    }

    /// Closes a schema, with the rest of its notes.
    fn close(&mut self, notes: Notes) {
        let kind: Vec<_> = notes.kind.words().collect();
        self.text.filled_array("x-kind", &kind);
        self.text.filled_array("x-aliases", notes.aliases);
        self.text.close(b'}');
    }
}
