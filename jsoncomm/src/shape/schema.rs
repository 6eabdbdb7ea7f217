//! Types that only serde knows and that describe themselves by `schemars`, where that is asked for.

use schemars::{JsonSchema, SchemaGenerator};
use std::fmt;

/// A type that has a JSON Schema of its own.
///
/// # Examples
///
/// ```
/// use jsoncomm::describe::{Describe, Shape};
/// use serde_json::{Map, Value};
///
/// #[jsoncomm::service(name = "example.cutter", schema)]
/// pub trait Cutter {
///     fn cut(&mut self, what: Map<String, Value>) -> u64;
/// }
///
/// let [cut] = <dyn Cutter as Describe>::DESCRIPTION.methods() else { panic!() };
/// let [what] = cut.parameters() else { panic!() };
/// let Shape::Schema(map) = what.shape() else { panic!() };
/// let mut generator = schemars::SchemaGenerator::default();
/// assert_eq!(map.generate(&mut generator).get("type"), Some(&"object".into()));
/// ```
#[derive(Clone, Copy)]
pub struct Schema(fn(&mut SchemaGenerator) -> schemars::Schema);

impl Schema {
    #[doc(hidden)]
    pub const fn of<T: Schematic + ?Sized>() -> Self {
        Self(T::generate)
    }

    /// Has `schemars` write it, or a reference to it, for reading.
    pub fn generate(self, generator: &mut SchemaGenerator) -> schemars::Schema {
        (self.0)(generator)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// Has a JSON Schema.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`schema` is asked for, and `{Self}` has none",
    label = "has no JSON Schema",
    note = "derive `schemars::JsonSchema` for it, or `jsoncomm::Message`, or remove `schema`"
)]
pub trait Schematic {
    fn generate(generator: &mut SchemaGenerator) -> schemars::Schema;
}

impl<T: JsonSchema + ?Sized> Schematic for T {
    fn generate(generator: &mut SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }
}
