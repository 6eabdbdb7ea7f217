//! Asking for the shape of a type that may be a message, or one that only serde knows.
//!
//! The derive has fields of which it knows no more than that serde reads and writes them. Which of the functions
//! called `shape` the compiler takes here depends on what the type is: it looks at the receiver with the most
//! references first. Nothing is asked of a type, so nothing that compiles without a description fails with one.

use super::{Json, Pack, Shape, Type};
use std::any::type_name;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::marker::PhantomData;

/// Makes a [`Type`] of whatever type it is.
#[doc(hidden)]
#[macro_export]
macro_rules! __type_of {
    ($of:ty) => {
        $crate::private::Type::new(|| {
            #[allow(unused_imports, reason = "one of them is needed")]
            use $crate::private::{Foreign as _, Holding as _, Known as _, Perhaps as _};
            (&&&$crate::private::Probe::<$of>::new()).shape()
        })
    };
}

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
    fn shape(&self) -> Shape;
}

impl<T: Pack + ToOwned + ?Sized> Holding for &&Probe<Cow<'_, T>> {
    fn shape(&self) -> Shape {
        T::shape()
    }
}

impl<T: Pack> Holding for &&Probe<Json<T>> {
    fn shape(&self) -> Shape {
        T::shape()
    }
}

impl<T: Pack, H> Holding for &&Probe<HashSet<T, H>> {
    fn shape(&self) -> Shape {
        super::plain::set(Type::of::<T>())
    }
}

impl<T: Pack> Holding for &&Probe<BTreeSet<T>> {
    fn shape(&self) -> Shape {
        super::plain::set(Type::of::<T>())
    }
}

/// Of a message.
#[doc(hidden)]
pub trait Known {
    fn shape(&self) -> Shape;
}

impl<T: Pack + ?Sized> Known for &Probe<T> {
    fn shape(&self) -> Shape {
        T::shape()
    }
}

/// Of an `Option` of anything else.
#[doc(hidden)]
pub trait Perhaps {
    fn shape(&self) -> Shape;
}

impl<T> Perhaps for Probe<Option<T>> {
    fn shape(&self) -> Shape {
        Shape::Optional(Type::foreign::<T>())
    }
}

/// Of anything else.
#[doc(hidden)]
pub trait Foreign {
    fn shape(self) -> Shape;
}

impl<T: ?Sized> Foreign for Probe<T> {
    fn shape(self) -> Shape {
        Shape::Anything(type_name::<T>())
    }
}
