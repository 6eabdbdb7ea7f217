//! Schemas that `schemars` writes for types that only serde knows.

use super::tree::Tree;
use crate::shape::Shape;

/// The schemas of one document. Without the feature `schema` there are none.
#[cfg(not(feature = "schema"))]
#[derive(Debug)]
pub(super) struct Schemas;

#[cfg(not(feature = "schema"))]
impl Schemas {
    pub(super) fn new() -> Self {
        Self
    }

    /// Adds the schema of a shape, if it has one.
    pub(super) fn visit(&mut self, _: &Shape) {}

    /// Returns the schemas that others refer to, by name.
    pub(super) fn named(&mut self) -> Vec<(String, Tree)> {
        Vec::new()
    }
}

#[cfg(feature = "schema")]
pub(super) use with_schemars::Schemas;

#[cfg(feature = "schema")]
mod with_schemars {
    use super::{Shape, Tree};
    use crate::shape::Schema;
    use schemars::SchemaGenerator;
    use schemars::generate::SchemaSettings;

    /// The schemas of one document.
    #[derive(Debug)]
    pub(in crate::describe) struct Schemas(SchemaGenerator);

    impl Schemas {
        pub(in crate::describe) fn new() -> Self {
            let mut settings = SchemaSettings::draft07();
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            Self(settings.into_generator())
        }

        /// Adds the schema of a shape, if it has one.
        pub(in crate::describe) fn visit(&mut self, shape: &Shape) {
            if let Shape::Schema(schema) = shape {
                schema.generate(&mut self.0);
            }
        }

        /// Returns the schemas that others refer to, by name.
        pub(in crate::describe) fn named(&mut self) -> Vec<(String, Tree)> {
            let all = self.0.clone().take_definitions(true).into_iter();
            all.map(|(name, schema)| (name, Tree::Given(schema)))
                .collect()
        }

        /// Returns a type's schema, or a reference to it.
        pub(in crate::describe) fn schema(&self, schema: Schema) -> Tree {
            // A copy of the generator gives the same reference each time.
            let mut generator = self.0.clone();
            let mut schema = schema.generate(&mut generator);
            for transform in generator.transforms_mut() {
                transform.transform(&mut schema);
            }
            Tree::Given(schema.to_value())
        }
    }
}
