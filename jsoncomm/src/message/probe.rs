//! The shape of a type that may be a message, or known to serde alone.
//!
//! Of a field without `#[fd]` the derive knows only that serde can read and write it. Which of the functions called
//! `probed` is taken depends on the type, by autoref specialization as in `select`. They require nothing of the type, so a
//! program that compiles without a description compiles with one.

use super::{Json, Pack, PackPart};
use crate::shape::{Shape, Type};
use std::any::type_name;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::marker::PhantomData;
use std::num::{Saturating, Wrapping};
use std::sync::{Mutex, RwLock};

/// Stands for a type: what can be done with it is selected by its traits.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Clone for Probe<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Probe<T> {}

/// Returns the probe for a type.
#[doc(hidden)]
pub const fn probe<T: ?Sized>() -> Probe<T> {
    Probe(PhantomData)
}

/// A type that is written as the message that it holds, though serde alone knows it.
#[doc(hidden)]
pub trait WrapperOfMessage {
    fn probed(&self) -> Shape;
}

/// Implements it by the shape of what is held.
macro_rules! wrappers {
    ($([$($generics:tt)*] $of:ty: $shape:expr;)*) => {$(
        impl<$($generics)*> WrapperOfMessage for &&Probe<$of> {
            fn probed(&self) -> Shape {
                $shape
            }
        }
    )*};
}

wrappers! {
    [T: Pack + ToOwned + ?Sized] Cow<'_, T>: T::shape();
    [T: PackPart] Json<T>: T::part_shape();
    [T: PackPart] Wrapping<T>: T::part_shape();
    [T: PackPart] Saturating<T>: T::part_shape();
    [T: PackPart] Reverse<T>: T::part_shape();
    [T: PackPart] Cell<T>: T::part_shape();
    [T: PackPart] RefCell<T>: T::part_shape();
    [T: PackPart] Mutex<T>: T::part_shape();
    [T: PackPart] RwLock<T>: T::part_shape();
    [T: PackPart] BinaryHeap<T>: <[T]>::shape();
    [T: PackPart, H] HashSet<T, H>: Shape::set(Type::of::<T>());
    [T: PackPart] BTreeSet<T>: Shape::set(Type::of::<T>());
}

/// A message.
#[doc(hidden)]
pub trait AnyMessage<T: PackPart + ?Sized> {
    fn probed(&self) -> Shape {
        T::part_shape()
    }
}

impl<T: PackPart + ?Sized> AnyMessage<T> for &Probe<T> {}

/// An `Option` of anything else.
#[doc(hidden)]
pub trait OptionOfForeign<T> {
    fn probed(&self) -> Shape {
        Shape::Optional(Type::foreign::<T>())
    }
}

impl<T> OptionOfForeign<T> for Probe<Option<T>> {}

/// Anything else.
#[doc(hidden)]
pub trait AnyForeign<T: ?Sized>: Sized {
    fn probed(self) -> Shape {
        Shape::Anything(type_name::<T>())
    }
}

impl<T: ?Sized> AnyForeign<T> for Probe<T> {}

#[cfg(feature = "schema")]
mod schema {
    use super::*;
    use crate::shape::{Schema, Schematic};
    use schemars::JsonSchema;

    /// A type that is written as the message that it holds, though serde alone knows it.
    #[doc(hidden)]
    pub trait WrapperOfMessageFirst {
        fn probed(&self) -> Shape;
    }

    impl<'a, 'b, T: ?Sized> WrapperOfMessageFirst for &&'a &'b Probe<T>
    where
        &'a &'b Probe<T>: WrapperOfMessage,
    {
        fn probed(&self) -> Shape {
            WrapperOfMessage::probed(&**self)
        }
    }

    /// A `Json` whose content has a schema.
    #[doc(hidden)]
    pub trait WrapperOfSchema<T: JsonSchema> {
        fn probed(&self) -> Shape {
            Shape::Schema(Schema::of::<T>())
        }
    }

    impl<T: JsonSchema> WrapperOfSchema<T> for &&Probe<Json<T>> {}

    /// A message that has a schema, which is used where the message has no shape of its own.
    #[doc(hidden)]
    pub trait MessageOrSchema<T: Pack + JsonSchema + ?Sized> {
        fn probed(&self) -> Shape {
            match T::shape() {
                Shape::Anything(_) => Shape::Schema(Schema::of::<T>()),
                known => known,
            }
        }
    }

    impl<T: Pack + JsonSchema + ?Sized> MessageOrSchema<T> for &&Probe<T> {}

    /// An `Option` of a type with a schema.
    #[doc(hidden)]
    pub trait OptionOfSchema<T: JsonSchema> {
        fn probed(&self) -> Shape {
            Shape::Optional(Type::new(|| Shape::Schema(Schema::of::<T>())))
        }
    }

    impl<T: JsonSchema> OptionOfSchema<T> for &Probe<Option<T>> {}

    /// Anything else, which has to have a schema. The trait has been selected before that is required.
    #[doc(hidden)]
    pub trait SchemaRequired<T: ?Sized> {
        fn probed(&self) -> Shape
        where
            T: Schematic,
        {
            Shape::Schema(Schema::of::<T>())
        }
    }

    impl<T: ?Sized> SchemaRequired<T> for Probe<T> {}
}

#[cfg(feature = "schema")]
pub use schema::{
    MessageOrSchema, OptionOfSchema, SchemaRequired, WrapperOfMessageFirst, WrapperOfSchema,
};
