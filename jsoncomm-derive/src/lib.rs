//! The macros of `jsoncomm`; use them through it.
//!
//! A macro's way goes down one room at a time: `expand` writes code for what `check` has judged, in
//! the shape `ast` gives it, from what `attr` reads; complaints collect in `ctxt`.

#[cfg(test)]
#[macro_use]
extern crate jsoncomm_watchdog;

mod ast;
mod attr;
mod check;
mod ctxt;
mod expand;
mod library;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemTrait, parse_macro_input};

/// Makes a struct or enum a message: implements `Pack` and `Unpack`.
///
/// A field with `#[fd]` goes through `Pack` and `Unpack`; every other field through serde's traits if its type has
/// them, or else, without descriptors inside, through these two as well. A type parameter outside `#[fd]` has to have
/// serde's traits. serde's attributes mean what they mean there, without serde being derived. The trait of the same
/// name says what differs, and shows an example. With `#[message(reply = ...)]` it implements `Request` and `Describe`,
/// too.
///
/// A field with `#[sensitive]`, for a password or a key, stays out of what is printed:
///
/// - the derive implements `Debug` as well, like std's but with `<sensitive>` for the field. Derive no `Debug`
///   beside it: the compiler refuses the two. All other fields have to be `Debug`;
/// - an error of reading names the field and does not say what came for it or for what is inside it, nor what
///   stands where the struct or variant should; one of writing does not say why the field refuses to be written.
///
/// What the type's own `Display` prints, and what a handler does with the value, is its author's. A type that has
/// serde's traits is read by serde in a field without `#[fd]`, and serde does not know the attribute: put it on that
/// field too.
#[proc_macro_derive(Message, attributes(fd, message, sensitive, serde))]
pub fn message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::message(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a trait a service: adds a dispatcher, and a client stub with the trait's name and `Client`.
///
/// The trait stays as it is, without the attributes `#[fd]`, `#[sensitive]`, `#[serde(...)]` and `#[oneway]`.
/// Each method takes `&mut self` or `&self`, then, if it likes, `&mut Call`, then arguments by value or as `&str`,
/// `&[T]`, `&T` or `Option<&str>`; it returns a message, or a `Result` of a message and an error, or nothing if it is
/// `#[oneway]`.
///
/// The stub is `Clone`, and one of a connection can be used from any number of threads. Its methods take the arguments of
/// the trait's, in the same order, but for what can be lent:
///
/// | in the trait | at the stub |
/// |---|---|
/// | `T` | `T`; write `&T` in the trait to have a large one lent |
/// | `&T`, `&[T]`, `&str`, `Option<&str>` | as in the trait |
/// | `#[fd]` with `OwnedFd`, `File` or another descriptor | it, or a reference to it |
/// | `#[fd]` with `Option` or `Vec` of these | `Option<BorrowedFd>`, `&[BorrowedFd]` |
/// | `#[fd]` with a message | a reference to it |
///
/// A macro sees names and no types: `Path`, `Option`, `Vec`, `Result`, `Deferred`, `Stream` and those of descriptors, such as
/// `File` and `TcpStream`, are taken for the ones that everybody knows. A type of your own with such a name is written
/// `self::File`, or with another path from `self`, `super` or `crate`.
///
/// `#[service(name = "example.files")]` gives the name in front of the methods' names;
/// `crate = "path"` says where the library is if not at `::jsoncomm`; a dependency that Cargo.toml renames needs it.
///
/// The trait may ask for others, as supertraits or in its `where` clause, if it stays one that can be used as
/// `dyn`; a method asks in a `where` clause of its own that begins with `Self: Sized`. Who serves the trait has
/// all of them.
///
/// What is generated for a method has the method's `#[cfg(...)]`, and the stub repeats its documentation and
/// `#[deprecated]`. Lints that `#[allow(...)]` or `#[expect(...)]` names on the trait, a method or an argument are allowed in
/// what is generated, which breaks none by itself: each can be forbidden, but for `deprecated` where the trait or a
/// method of it is. The stub has `new` and `start` of its own unless a method takes the name; `From` makes a
/// stub in any case.
///
/// A method is called on the wire as in the trait, or as `#[serde(rename = "...")]` on it says; each
/// `#[serde(alias = "...")]` is one more name that the server knows it by, for clients from before a renaming.
/// A new argument is open to old clients if it is an `Option` or has `#[serde(default)]`. With functions of its own
/// (`#[serde(default = "...", with = "...", skip_serializing_if = "...")]`) it is taken by value, without `#[fd]`.
///
/// What comes for an argument with `#[sensitive]` is in no fault and no error, as with `derive(Message)`.
///
/// `Describe` is implemented as well: the trait, its comments and all types as a constant. With `#[service(name = "...",
/// schema)]` types that only serde knows describe themselves by `schemars::JsonSchema`, which they have to implement
/// then; that needs the library's feature `schema`.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemTrait);
    expand::service::service(options.into(), item)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
