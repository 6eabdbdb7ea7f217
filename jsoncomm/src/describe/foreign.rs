//! Schemas that `schemars` writes for types that only serde knows.

use crate::shape::Schema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schemas of one document.
#[derive(Debug)]
pub(super) struct Schemas(SchemaGenerator);

impl Schemas {
    pub(super) fn new(all: &[Schema]) -> Self {
        let mut settings = SchemaSettings::draft07();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        let mut generator = settings.into_generator();
        for schema in all {
            schema.generate(&mut generator);
        }
        Self(generator)
    }

    /// Returns the schemas that others refer to, by name.
    pub(super) fn named(&self) -> Vec<(String, Value)> {
        let all = self.0.clone().take_definitions(true).into_iter();
        all.collect()
    }

    /// Returns a type's schema, or a reference to it.
    pub(super) fn schema(&self, schema: Schema) -> Value {
        // A copy of the generator gives the same reference each time.
        let mut generator = self.0.clone();
        let mut schema = schema.generate(&mut generator);
        for transform in generator.transforms_mut() {
            transform.transform(&mut schema);
        }
        schema.to_value()
    }
}
