//! Asking for the shape of a type that may be a message, or one that only serde knows.
//!
//! The derive has fields of which it knows no more than that serde reads and writes them. Which of the functions
//! called `probed_shape` the compiler takes here depends on what the type is, by autoref specialization as in `select`. Nothing is asked of a type, so nothing that compiles without a description fails with one.

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

/// A type, to ask for its shape.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Clone for Probe<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Probe<T> {}

#[doc(hidden)]
impl<T: ?Sized> Probe<T> {
    #[expect(clippy::new_without_default, reason = "only made by a macro")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// Of what serde alone holds for us, and whose content is a message.
#[doc(hidden)]
pub trait Holding {
    fn probed_shape(&self) -> Shape;
}

impl<T: Pack + ToOwned + ?Sized> Holding for &&Probe<Cow<'_, T>> {
    fn probed_shape(&self) -> Shape {
        T::shape()
    }
}

/// Implements it for what is written as the one thing that it holds.
macro_rules! transparent {
    ($($of:ident)*) => {$(
        impl<T: PackPart> Holding for &&Probe<$of<T>> {
            fn probed_shape(&self) -> Shape {
                T::part_shape()
            }
        }
    )*};
}

transparent! { Json Wrapping Saturating Reverse Cell RefCell Mutex RwLock }

impl<T: PackPart> Holding for &&Probe<BinaryHeap<T>> {
    fn probed_shape(&self) -> Shape {
        <[T]>::shape()
    }
}

impl<T: PackPart, H> Holding for &&Probe<HashSet<T, H>> {
    fn probed_shape(&self) -> Shape {
        super::plain::set(Type::of::<T>())
    }
}

impl<T: PackPart> Holding for &&Probe<BTreeSet<T>> {
    fn probed_shape(&self) -> Shape {
        super::plain::set(Type::of::<T>())
    }
}

/// Of a message.
#[doc(hidden)]
pub trait Known {
    fn probed_shape(&self) -> Shape;
}

impl<T: PackPart + ?Sized> Known for &Probe<T> {
    fn probed_shape(&self) -> Shape {
        T::part_shape()
    }
}

/// Of an `Option` of anything else.
#[doc(hidden)]
pub trait Perhaps {
    fn probed_shape(&self) -> Shape;
}

impl<T> Perhaps for Probe<Option<T>> {
    fn probed_shape(&self) -> Shape {
        Shape::Optional(Type::foreign::<T>())
    }
}

/// Of anything else.
#[doc(hidden)]
pub trait Foreign {
    fn probed_shape(self) -> Shape;
}

impl<T: ?Sized> Foreign for Probe<T> {
    fn probed_shape(self) -> Shape {
        Shape::Anything(type_name::<T>())
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::*;
    use crate::shape::{Schema, Schematic};
    use schemars::JsonSchema;

    /// Of what serde alone holds for us, and whose content is a message.
    #[doc(hidden)]
    pub trait Holds {
        fn probed_shape(&self) -> Shape;
    }

    impl<'a, 'b, T: ?Sized> Holds for &&'a &'b Probe<T>
    where
        &'a &'b Probe<T>: Holding,
    {
        fn probed_shape(&self) -> Shape {
            Holding::probed_shape(&**self)
        }
    }

    /// Of what serde alone holds for us, and whose content has a schema.
    #[doc(hidden)]
    pub trait Held {
        fn probed_shape(&self) -> Shape;
    }

    impl<T: JsonSchema> Held for &&Probe<Json<T>> {
        fn probed_shape(&self) -> Shape {
            Shape::Schema(Schema::of::<T>())
        }
    }

    /// Of a message that has a schema: it is asked where the message tells nothing.
    #[doc(hidden)]
    pub trait Told {
        fn probed_shape(&self) -> Shape;
    }

    impl<T: Pack + JsonSchema + ?Sized> Told for &&Probe<T> {
        fn probed_shape(&self) -> Shape {
            match T::shape() {
                Shape::Anything(_) => Shape::Schema(Schema::of::<T>()),
                known => known,
            }
        }
    }

    /// Of an `Option` of what has a schema.
    #[doc(hidden)]
    pub trait Lacking {
        fn probed_shape(&self) -> Shape;
    }

    impl<T: JsonSchema> Lacking for &Probe<Option<T>> {
        fn probed_shape(&self) -> Shape {
            Shape::Optional(Type::new(|| Shape::Schema(Schema::of::<T>())))
        }
    }

    /// Of anything else. Which it is has been decided by the time that the schema is asked for.
    #[doc(hidden)]
    pub trait Needed<T: ?Sized> {
        fn probed_shape(&self) -> Shape
        where
            T: Schematic;
    }

    impl<T: ?Sized> Needed<T> for Probe<T> {
        fn probed_shape(&self) -> Shape
        where
            T: Schematic,
        {
            Shape::Schema(Schema::of::<T>())
        }
    }
}

#[cfg(feature = "schema")]
pub use schema::{Held, Holds, Lacking, Needed, Told};
