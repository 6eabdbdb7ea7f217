//! The structs and enums of a document, each found once, however they contain each other.

#[cfg(feature = "schema")]
use super::foreign::Schemas;
use super::schemas::SchemaWriter;
use super::text::Text;
#[cfg(feature = "schema")]
use crate::shape::Schema;
use crate::shape::{Definition, Form, Shape, Type, Way};

/// The name in the document of each definition in each direction. There are few, so the list is searched.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(&'static Definition, Way, String)>);

impl Names {
    /// Names the definitions. One that is the same in both directions has one name.
    pub(super) fn new(found: &[(&'static Definition, Way)], mut taken: Vec<String>) -> Self {
        let mut names = Self::default();
        for way in [Way::Read, Way::Written] {
            for (definition, _) in found.iter().filter(|(_, by)| *by == way) {
                let name = match names.find(definition, Way::Read) {
                    Some(name) if !differs(definition) => name.to_owned(),
                    Some(name) => free(format!("{name}.written"), &mut taken),
                    None => free(word(definition.rust_name()), &mut taken),
                };
                names.0.push((*definition, way, name));
            }
        }
        names
    }

    pub(super) fn get(&self, definition: &'static Definition, way: Way) -> &str {
        self.find(definition, way).unwrap_or_default()
    }

    fn find(&self, definition: &'static Definition, way: Way) -> Option<&str> {
        let mut all = self.0.iter();
        let found = all.find(|(other, by, _)| *by == way && is_same(other, definition));
        found.map(|(_, _, name)| name.as_str())
    }
}

/// Returns the name, with a number if it is taken, and marks it as taken.
fn free(name: String, taken: &mut Vec<String>) -> String {
    let (mut free, mut number) = (name.clone(), 1_u32);
    while taken.contains(&free) {
        number += 1;
        free = format!("{name}{number}");
    }
    taken.push(free.clone());
    free
}

/// Returns true for letters and digits; names have no other characters beyond ASCII.
fn is_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || !letter.is_ascii()
}

/// Returns a name in Rust without paths.
pub(super) fn short(rust: &str) -> String {
    let mut short = String::new();
    for part in rust.split_inclusive(|letter| !is_part(letter) && letter != '_') {
        match part.strip_suffix(':') {
            Some(_) => {}
            None => short.push_str(part),
        }
    }
    short
}

/// Returns a name in Rust without paths, of letters, digits and single `_`.
fn word(rust: &str) -> String {
    let short = short(rust);
    let words = short.split(|letter| !is_part(letter));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// What is in some shapes.
#[derive(Default)]
pub(super) struct Found {
    pub(super) definitions: Vec<(&'static Definition, Way)>,
    #[cfg(feature = "schema")]
    pub(super) schemas: Vec<Schema>,
}

impl Found {
    /// Adds what a shape and the shapes of all types in it are; each definition once, even if it contains itself.
    pub(super) fn walk(&mut self, shape: Shape, way: Way) {
        #[cfg(feature = "schema")]
        if let Shape::Schema(schema) = shape {
            self.schemas.push(schema);
        }
        if let Shape::Defined(definition) = shape {
            let mut known = self.definitions.iter();
            if known.any(|(other, by)| *by == way && is_same(other, definition)) {
                return;
            }
            self.definitions.push((definition, way));
        }
        for part in parts(&shape) {
            self.walk(part.shape(), way);
        }
    }
}

/// Returns the types that the shape names.
fn parts(shape: &Shape) -> Vec<Type> {
    let mut parts = Vec::new();
    match shape {
        Shape::Optional(item) | Shape::List { item, .. } | Shape::Map(item) => parts.push(*item),
        Shape::Tuple(items) => parts.extend_from_slice(items),
        Shape::Defined(definition) => add_parts(&definition.form(), &mut parts),
        _ => {}
    }
    parts
}

fn add_parts(form: &Form, to: &mut Vec<Type>) {
    match form {
        Form::Whole(ty) => to.push(*ty),
        Form::Elements(fields) | Form::Members(fields) => {
            for field in *fields {
                to.push(field.ty());
            }
        }
        Form::Variants(variants, _) => {
            for variant in *variants {
                add_parts(&variant.form(), to);
            }
        }
        Form::Unit | Form::Other => {}
    }
}

/// Returns true if two definitions are of the same type. Names are not enough, since types in all blocks of a function have
/// its path. Addresses are not either: a definition may be compiled more than once.
fn is_same(one: &'static Definition, other: &'static Definition) -> bool {
    looks_same(Shape::Defined(one), Shape::Defined(other), &mut Vec::new())
}

/// Compares two shapes and all types in them; each pair of definitions once, even if they contain themselves.
fn looks_same(one: Shape, other: Shape, seen: &mut Vec<[*const Definition; 2]>) -> bool {
    if let (Shape::Defined(one), Shape::Defined(other)) = (one, other) {
        let pair = [one, other].map(std::ptr::from_ref);
        if std::ptr::eq(one, other) || seen.contains(&pair) {
            return true;
        }
        seen.push(pair);
        let differs = |way| schema(one, way) != schema(other, way);
        if one.rust_name() != other.rust_name() || differs(Way::Read) || differs(Way::Written) {
            return false;
        }
    }
    let (one, other) = (parts(&one), parts(&other));
    one.len() == other.len()
        && one
            .into_iter()
            .zip(other)
            .all(|(one, other)| looks_same(one.shape(), other.shape(), seen))
}

/// Writes the schema of a definition, without the names of those in it.
fn schema(definition: &Definition, way: Way) -> String {
    let mut writer = SchemaWriter {
        text: Text::in_one(),
        names: &Names::default(),
        #[cfg(feature = "schema")]
        foreign: &Schemas::new(&[]),
    };
    writer.definition(definition, way);
    writer.text.end()
}

/// Returns true if what is read differs from what is written, here or in a type inside.
fn differs(definition: &'static Definition) -> bool {
    let mut found = Found::default();
    found.walk(Shape::Defined(definition), Way::Read);
    let mut all = found.definitions.iter();
    all.any(|(definition, _)| schema(definition, Way::Read) != schema(definition, Way::Written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_definitions_are_short_and_unique() {
        assert_eq!(short("a::b::Page<alloc::vec::Vec<u8>>"), "Page<Vec<u8>>");
        assert_eq!(short("u8"), "u8");
        assert_eq!(word("a::Page<(a::b::C, [u8; 4])>"), "Page_C_u8_4");
        let mut taken = Vec::new();
        let names = ["A", "B", "A", "A"].map(|name| free(name.to_owned(), &mut taken));
        assert_eq!(names, ["A", "B", "A2", "A3"]);
    }
}
