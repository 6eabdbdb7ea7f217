//! How the types of a service trait are spelt, and which of them cannot be.

use super::Passing;
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{GenericArgument, PathArguments, PathSegment, ReturnType, Type, TypePath, TypeReference};

/// Says whether this is `&mut Call`, however its path is written.
pub(super) fn is_call(ty: &Type) -> bool {
    matches!(ty, Type::Reference(TypeReference { mutability: Some(_), elem, .. })
        if last_segment(elem).is_some_and(|segment| segment.ident == "Call"))
}

/// Finds out how an argument is taken, and refuses what cannot be decoded.
pub(super) fn passing(cx: &Ctxt, ty: &Type) -> Passing {
    if let Some(inner) = option_of(ty) {
        if let Some(reference) = str_reference(inner) {
            refuse_lifetime(cx, reference);
            return Passing::OptionStr;
        }
    }
    let Type::Reference(reference) = ty else {
        refuse_unsized(cx, ty);
        refuse_borrows(cx, ty, Place::Argument);
        return Passing::Value;
    };
    refuse_unsized(cx, &reference.elem);
    refuse_lifetime(cx, reference);
    if let Some(token) = &reference.mutability {
        cx.complain(
            token,
            "an argument is taken by value or by `&`; only `&mut Call` comes first",
        );
    }
    match &*reference.elem {
        elem if is_named(elem, "str") => Passing::Str,
        elem if is_named(elem, "Path") => Passing::Path,
        Type::Slice(slice) => {
            refuse_borrows(cx, &slice.elem, Place::Argument);
            Passing::Slice
        }
        elem => {
            refuse_borrows(cx, elem, Place::Argument);
            Passing::Reference
        }
    }
}

/// The `T` of a type that is spelt `Option<T>`.
pub(crate) fn option_of(ty: &Type) -> Option<&Type> {
    argument_of(ty, "Option")
}

/// The `T` of a type that is spelt `Name<T>`.
pub(crate) fn argument_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let segment = known_name(ty).filter(|segment| segment.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}

pub(super) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(TypePath {
            qself: None, path, ..
        }) => path.segments.last(),
        _ => None,
    }
}

/// The last name of a path that may be one of those we know: what is found from `self`, `super` or `crate` is of
/// the user's own.
pub(crate) fn known_name(ty: &Type) -> Option<&PathSegment> {
    let first = match ty {
        Type::Path(ty) => ty.path.segments.first(),
        _ => None,
    };
    let is_own = |first: &PathSegment| {
        let mut own = ["self", "super", "crate"].iter();
        own.any(|own| first.ident == own)
    };
    last_segment(ty).filter(|_| !first.is_some_and(is_own))
}

pub(super) fn is_named(ty: &Type, name: &str) -> bool {
    known_name(ty).is_some_and(|segment| segment.ident == name && segment.arguments.is_none())
}

pub(super) fn str_reference(ty: &Type) -> Option<&TypeReference> {
    match ty {
        Type::Reference(to) if to.mutability.is_none() && is_named(&to.elem, "str") => Some(to),
        _ => None,
    }
}

/// Complains about trait objects: what is decoded has a size.
pub(super) fn refuse_unsized(cx: &Ctxt, ty: &Type) {
    match ty {
        Type::TraitObject(ty) => {
            cx.complain(
                ty,
                "an argument has a size of its own, as a `Box` of this would",
            );
        }
        Type::Paren(inner) => refuse_unsized(cx, &inner.elem),
        _ => {}
    }
}

/// Where a type stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Argument,
    Answer,
}

impl Place {
    /// What to write in place of a reference.
    fn advice(self) -> &'static str {
        match self {
            Self::Argument => {
                "an argument borrows as a whole, as `&str`, `&[T]`, `&T` or `Option<&str>`, or not at all"
            }
            Self::Answer => "a method answers something owned: who calls is another process",
        }
    }
}

/// Complains about references and lifetimes inside a type: there is nothing they could borrow from.
pub(super) fn refuse_borrows(cx: &Ctxt, ty: &Type, place: Place) {
    match ty {
        Type::Reference(reference) => cx.complain(reference, place.advice()),
        Type::Slice(slice) => refuse_borrows(cx, &slice.elem, place),
        Type::Array(array) => refuse_borrows(cx, &array.elem, place),
        Type::Paren(inner) => refuse_borrows(cx, &inner.elem, place),
        Type::Tuple(tuple) => tuple
            .elems
            .iter()
            .for_each(|elem| refuse_borrows(cx, elem, place)),
        Type::Path(path) => {
            for segment in &path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
                    continue;
                };
                for argument in &arguments.args {
                    match argument {
                        GenericArgument::Type(inner) => refuse_borrows(cx, inner, place),
                        // An answer may lend what its type can also own, as `Cow<'_, str>` does.
                        GenericArgument::Lifetime(lifetime)
                            if place == Place::Argument && lifetime.ident != "static" =>
                        {
                            cx.complain(lifetime, place.advice());
                        }
                        _ => {}
                    }
                }
            }
        }
        Type::ImplTrait(ty) => cx.complain(ty, "write a type that has a name"),
        _ => {}
    }
}

/// Complains about `Self`, which is whoever serves the trait.
pub(super) fn refuse_self(cx: &Ctxt, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => {
                cx.complain(
                    ident,
                    "a client does not know what `Self` is: write the type",
                );
            }
            TokenTree::Group(group) => refuse_self(cx, group.stream()),
            _ => {}
        }
    }
}

/// Complains about a reference that is said to live longer than the call.
pub(super) fn refuse_lifetime(cx: &Ctxt, reference: &TypeReference) {
    let lifetime = reference.lifetime.as_ref();
    if let Some(lifetime) = lifetime.filter(|lifetime| lifetime.ident != "_") {
        let text = "an argument is borrowed while the call is handled: leave the lifetime away";
        cx.complain(lifetime, text);
    }
}

/// Says whether the method returns nothing.
pub(super) fn returns_nothing(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

/// Says whether the type is spelt as one of those that are a descriptor and nothing else.
pub(crate) fn is_descriptor(ty: &Type) -> bool {
    descriptor(ty).is_some()
}

/// The name of such a type.
pub(super) fn descriptor(ty: &Type) -> Option<&Ident> {
    const NAMES: [&str; 13] = [
        "OwnedFd",
        "File",
        "UnixStream",
        "UnixDatagram",
        "UnixListener",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ChildStdin",
        "ChildStdout",
        "ChildStderr",
        "PipeReader",
        "PipeWriter",
    ];
    let name = known_name(ty).map(|segment| &segment.ident);
    name.filter(|ident| NAMES.iter().any(|name| *ident == name))
}
