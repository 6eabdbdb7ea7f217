//! The macros of `jsoncomm`, which re-exports them.
//!
//! A macro goes through one module after another: `attr` reads attributes, `ast` reads the type or trait, `check` reports
//! what is wrong with it, `expand` writes the code. Errors are collected in `ctxt`.

mod ast;
mod attr;
mod check;
mod ctxt;
mod expand;
mod library;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemTrait, parse_macro_input};

/// Implements `Pack` and `Unpack` for a struct or enum, which makes it a message.
///
/// A field with `#[fd]` is written by `Pack` and read by `Unpack`. Any other field is written and read by serde's traits
/// if its type has them, or else, without descriptors inside, by these two as well. A type parameter outside of `#[fd]`
/// needs serde's traits. serde's attributes have their usual meaning, without serde being derived. The trait of the same
/// name lists the differences, and shows an example. With `#[message(reply = ...)]` the derive implements `Request` and
/// `Describe`, too.
///
/// `#[fd(...)]` asks for what the field's descriptors have to be, each of them, in a container or a message as well. It is checked
/// before a message is sent and when one is received.
///
/// | word | fits |
/// |---|---|
/// | `regular`, `directory` | that type of file |
/// | `pipe` | either end of a pipe, and a FIFO |
/// | `memfd`, `memfd(sealed)` | a file in memory that can be sealed; one that neither changes its size nor its content any more |
/// | `pidfd` | a process |
/// | `socket`, `socket(stream)`, `socket(datagram)`, `socket(seqpacket)` | a socket of any family |
/// | `read`, `write` | what is open for that, or for both |
/// | `path` | what was opened with `O_PATH` |
///
/// A kind goes with how it is open: `#[fd(regular, read)]`. Words that contradict each other are refused. `jsoncomm::fds::FdKind` has the
/// details.
///
/// A field with `#[sensitive]`, such as a password or a key, is not printed:
///
/// - The derive implements `Debug` as well, like std's derive but with `<sensitive>` for the field. Do not derive `Debug`
///   beside it: the compiler refuses two. All other fields have to be `Debug`.
/// - An error of reading names the field. It repeats neither what came for it or inside of it, nor what came in the place
///   of the struct or variant. An error of writing does not repeat why the field could not be written.
///
/// The type's own `Display` and the handler are not affected. A type that has serde's traits is read by serde in a field
/// without `#[fd]`, and serde does not know the attribute: write it on that field, too.
#[proc_macro_derive(Message, attributes(fd, message, sensitive, serde))]
pub fn message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::message(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a trait a service: adds a dispatcher, and a client stub with the trait's name and `Client`.
///
/// The trait is kept, without the attributes `#[fd]`, `#[sensitive]`, `#[serde(...)]`, `#[oneway]` and `#[since = "..."]`. Each method takes
/// `&mut self` or `&self`, then optionally `&mut Call`, then arguments by value or as `&str`, `&[T]`, `&T` or
/// `Option<&str>`. It returns one of these, without an attribute even if that is a descriptor. What a returned descriptor has to be is
/// said in a struct, as in `struct Log(#[fd(regular, read)] File)`.
///
/// | return type | the caller gets |
/// |---|---|
/// | a message `T` | the value |
/// | `Result<T, E>` of a message and an error, which is a message with `Display` | the value or the error |
/// | `Result<(), E>` | a reply without a value. If the method cannot fail, `E` is `std::convert::Infallible` |
/// | `Deferred<T, E>` | the value or the error, later |
/// | `Stream<T, E>` | items, and the error if there is one |
/// | none, with `#[oneway]` | no reply |
///
/// # The stub
///
/// The stub is `Clone`, and one of a connection can be used from any number of threads. Its methods take the arguments of
/// the trait's, in the same order. The caller lends them, whether the handler owns or borrows them: nothing is copied but
/// into the message.
///
/// | in the trait | in the stub |
/// |---|---|
/// | `String` | `impl AsRef<str>`: a literal, a `&str`, a `String` or a reference to one |
/// | `Option<String>` | `Option<&str>` |
/// | `Vec<T>` | `impl AsRef<[T]>`: a slice, an array or a `Vec`, or a reference to one |
/// | `PathBuf` | `impl AsRef<Path>`: a literal, a `&Path`, a `PathBuf` or a reference to one |
/// | a number, `bool` or `char` | as in the trait |
/// | any other `T`, such as an alias | `impl Borrow<T>`: a `T` or a `&T` |
/// | `&T`, `&[T]`, `&str`, `&Path`, `Option<&str>` | as in the trait |
/// | `#[fd]` with `OwnedFd`, `File` or another descriptor | it, or a reference to it |
/// | `#[fd]` with `Option` or `Vec` of these | `Option<BorrowedFd>`, `&[BorrowedFd]`: `Some(file.as_fd())` |
/// | `#[fd]` with a message, a stub or a connection | a reference to it |
///
/// The stub does not say which type is passed for an `impl`, so the call has to:
///
/// - `text.into()`, `text.parse()?`, `items.collect()` and `Default::default()` are no arguments. Pass what is there already,
///   or name the type: `String::from(text)`, `text.parse::<Ipv4Addr>()?`, `items.collect::<Vec<_>>()`, `Mode::default()`.
/// - An `Option<String>` is lent: `name.as_deref()`, or `Some(&name)`, instead of `name` or `Some(name)`.
/// - The elements of a list have the trait's type: `["a", "b"]` is no list of `String`, and `["a", "b"].map(String::from)`
///   is one.
///
/// The stub has functions `new` and `start`, unless a method has that name; `From` makes a stub in any case. It repeats the
/// methods' documentation and `#[deprecated]`.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `name = "example.files"` | required: stands before the methods' names on the wire |
/// | `version = "1.2.0"` | the version of the service, for its description: up to three numbers. `#[since = "1.1"]` on a method tells which version has added it |
/// | `crate = "path"` | where the library is; needed if Cargo.toml renames it |
/// | `schema` | types that only serde knows are described by `schemars::JsonSchema`, which they have to implement; needs the library's feature `schema` |
///
/// # Names and arguments
///
/// A method has its name of the trait on the wire, or that of `#[serde(rename = "...")]`. Each `#[serde(alias = "...")]` is
/// one more name that the server knows it by, for older clients. Older clients can call a method with a new argument if
/// that is an `Option` or has `#[serde(default)]`. A stub leaves out an `Option` that is `None`, unless it has a `default`, so that
/// an older server, which does not have the argument, can be called as well. An argument with a function of its own (`#[serde(default = "...",
/// with = "...", skip_serializing_if = "...")]`) is owned by the handler, without `#[fd]`. With one of the latter two the
/// stub takes `T` or `&T`, also of a `String`, `Vec` or `Option<String>`: the function is given a `&T`. An argument with
/// `#[sensitive]` is not repeated by faults and errors, as with `derive(Message)`.
///
/// A macro sees names, and no definitions: `String`, `Path`, `PathBuf`, `Option`, `Vec`, `Result`, `Deferred`, `Stream` and
/// those of descriptors, such as `File` and `TcpStream`, are taken for the well-known types. Write a type of your own with such a name as
/// `self::File`, or with another path from `self`, `super` or `crate`.
///
/// # Bounds, conditions and lints
///
/// The trait may have supertraits and bounds on `Self` in its `where` clause, if it can still be used as `dyn`. A method
/// may have bounds in a `where` clause that begins with `Self: Sized`. A type that is served has to satisfy all of them.
///
/// `#[cfg(...)]` on a method applies to everything that is generated for it. Lints that `#[allow(...)]` or `#[expect(...)]`
/// names on the trait, a method or an argument are allowed in generated code. It breaks none by itself, so each can be
/// forbidden, except `deprecated` where the trait or a method is deprecated.
///
/// # The description
///
/// The macro implements `Describe`: the trait, its comments and all types as a constant.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemTrait);
    expand::service::service(options.into(), item)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
