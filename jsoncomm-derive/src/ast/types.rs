//! Types as they are written: a macro sees names, and no definitions.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::BTreeSet;
use syn::punctuated::Punctuated;
use syn::{
    GenericArgument, Lifetime, Path, PathArguments, PathSegment, ReturnType, Token, Type,
    TypeParamBound, TypeParen, TypePath, TypeReference,
};

/// The standard library's types that are a descriptor and nothing else.
const DESCRIPTORS: [&str; 14] = [
    "OwnedFd",
    "BorrowedFd",
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

/// Returns the name of a type that is written like one of [`DESCRIPTORS`].
pub(crate) fn descriptor(ty: &Type) -> Option<&Ident> {
    let name = &std_name(ty)?.ident;
    DESCRIPTORS
        .iter()
        .any(|known| name == known)
        .then_some(name)
}

/// Returns true if a type is written like a descriptor whose name no program gives to a type of its own.
pub(crate) fn is_plain_descriptor(ty: &Type) -> bool {
    descriptor(ty).is_some_and(|name| name == "OwnedFd" || name == "BorrowedFd")
}

/// Returns the last segment of a path that can lead to the standard library: one from `self`, `super` or `crate`
/// leads to a type of the program.
pub(crate) fn std_name(ty: &Type) -> Option<&PathSegment> {
    let own = ["self", "super", "crate"];
    let is_own = |first: &PathSegment| own.iter().any(|own| first.ident == own);
    last_segment(ty).filter(|_| !first_segment(ty).is_some_and(is_own))
}

fn first_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(ty) => ty.path.segments.first(),
        _ => None,
    }
}

/// Returns the last segment of a path that does not begin with `<T as Trait>`.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(TypePath {
            qself: None, path, ..
        }) => path.segments.last(),
        _ => None,
    }
}

/// Returns true if a type is written as the standard library's `name`, without arguments.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    std_name(ty).is_some_and(|segment| segment.ident == name && segment.arguments.is_none())
}

/// Returns the `T` of a type that is written `Name<T>`; there may be lifetimes before it.
pub(crate) fn argument_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let segment = std_name(ty).filter(|segment| segment.ident == name)?;
    match type_arguments(segment)[..] {
        [argument] => Some(argument),
        _ => None,
    }
}

/// Returns the types among the arguments of a path's segment; nothing if other arguments follow one.
pub(crate) fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let is_lifetime =
        |argument: &&GenericArgument| matches!(argument, GenericArgument::Lifetime(_));
    let rest = arguments.args.iter().skip_while(is_lifetime);
    let types = rest.map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect::<Option<_>>().unwrap_or_default()
}

/// Returns the reference that `&str` is.
pub(crate) fn str_reference(ty: &Type) -> Option<&TypeReference> {
    match ty {
        Type::Reference(to) if to.mutability.is_none() && is_named(&to.elem, "str") => Some(to),
        _ => None,
    }
}

/// Returns true for `str` and `[u8]`, to which a message can refer without a copy.
pub(crate) fn is_text_or_bytes(ty: &Type) -> bool {
    match ty {
        Type::Slice(slice) => is_named(&slice.elem, "u8"),
        ty => is_named(ty, "str"),
    }
}

/// Removes the groups without delimiters that `macro_rules!` puts around what it was given, as deep in a type as they
/// stand: `&$t` is read as `&str` where `$t` is `str`.
pub(crate) fn ungroup(ty: &mut Type) {
    while let Type::Group(group) = ty {
        let elem = std::mem::replace(&mut *group.elem, Type::Verbatim(TokenStream::new()));
        let several = match &elem {
            Type::TraitObject(object) => object.bounds.len() > 1,
            Type::ImplTrait(object) => object.bounds.len() > 1,
            _ => false,
        };
        *ty = if several {
            Type::Paren(TypeParen {
                attrs: Vec::new(),
                paren_token: syn::token::Paren(group.group_token.span),
                elem: Box::new(elem),
            })
        } else {
            elem
        };
    }
    parts(ty, &mut ungroup);
}

/// Calls `each` for the types that a type is directly made of.
pub(crate) fn parts(ty: &mut Type, each: &mut dyn FnMut(&mut Type)) {
    match ty {
        Type::Array(array) => each(&mut array.elem),
        Type::Group(group) => each(&mut group.elem),
        Type::Paren(paren) => each(&mut paren.elem),
        Type::Ptr(pointer) => each(&mut pointer.elem),
        Type::Reference(reference) => each(&mut reference.elem),
        Type::Slice(slice) => each(&mut slice.elem),
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(each),
        Type::FnPtr(function) => {
            let inputs = function.inputs.iter_mut();
            inputs.for_each(|input| each(&mut input.ty));
            returned(&mut function.output, each);
        }
        Type::Path(path) => {
            if let Some(qself) = &mut path.qself {
                each(&mut qself.ty);
            }
            parts_of_path(&mut path.path, each);
        }
        Type::TraitObject(object) => parts_of_bounds(&mut object.bounds, each),
        Type::ImplTrait(object) => parts_of_bounds(&mut object.bounds, each),
        _ => {}
    }
}

fn parts_of_bounds(
    bounds: &mut Punctuated<TypeParamBound, Token![+]>,
    each: &mut dyn FnMut(&mut Type),
) {
    for bound in bounds {
        if let TypeParamBound::Trait(bound) = bound {
            parts_of_path(&mut bound.path, each);
        }
    }
}

fn parts_of_path(path: &mut Path, each: &mut dyn FnMut(&mut Type)) {
    for segment in &mut path.segments {
        match &mut segment.arguments {
            PathArguments::None => {}
            PathArguments::Parenthesized(function) => {
                let inputs = function.inputs.iter_mut();
                inputs.for_each(|input| each(&mut input.ty));
                returned(&mut function.output, each);
            }
            PathArguments::AngleBracketed(arguments) => {
                for argument in &mut arguments.args {
                    match argument {
                        GenericArgument::Type(ty) => each(ty),
                        GenericArgument::AssocType(associated) => each(&mut associated.ty),
                        GenericArgument::Constraint(constraint) => {
                            parts_of_bounds(&mut constraint.bounds, each);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn returned(output: &mut ReturnType, each: &mut dyn FnMut(&mut Type)) {
    if let ReturnType::Type(_, ty) = output {
        each(ty);
    }
}

/// Writes `receiver` in place of `Self`, which means something else in generated code.
pub(crate) fn replace_self(tokens: TokenStream, receiver: &TokenStream) -> TokenStream {
    let each = |token| match token {
        TokenTree::Ident(ident) if ident == "Self" => receiver.clone(),
        TokenTree::Group(group) => {
            let inside = replace_self(group.stream(), receiver);
            let mut replaced = Group::new(group.delimiter(), inside);
            replaced.set_span(group.span());
            TokenTree::Group(replaced).into()
        }
        other => other.into(),
    };
    tokens.into_iter().flat_map(each).collect()
}

/// Returns true if a token is an identifier of which `found` returns true, however deep it stands.
pub(crate) fn any_ident(tokens: impl ToTokens, found: &dyn Fn(&Ident) -> bool) -> bool {
    tokens
        .into_token_stream()
        .into_iter()
        .any(|token| match token {
            TokenTree::Ident(ident) => found(&ident),
            TokenTree::Group(group) => any_ident(group.stream(), found),
            _ => false,
        })
}

/// Returns all lifetimes in a type.
pub(crate) fn lifetimes(tokens: TokenStream) -> BTreeSet<Lifetime> {
    let mut all = BTreeSet::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(tick) if tick.as_char() == '\'' => {
                if let Some(TokenTree::Ident(ident)) = tokens.next() {
                    let apostrophe = tick.span();
                    all.insert(Lifetime { apostrophe, ident });
                }
            }
            TokenTree::Group(group) => all.extend(lifetimes(group.stream())),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::Delimiter;
    use quote::quote;

    #[test]
    fn a_type_is_read_through_the_groups_that_macros_put_around_its_parts() {
        let group = |tokens| TokenTree::from(Group::new(Delimiter::None, tokens));
        let (text, length) = (group(quote!(str)), group(quote!(1 + 2)));
        let lent = group(quote!(&#text));
        let several = group(quote!(dyn Send + Sync));
        let option = group(quote!(Option<#lent>));
        for (given, seen) in [
            (quote!(#option), quote!(Option<&str>)),
            (quote!(&[#text; #length]), quote!(&[str; #length])),
            (quote!(&#several), quote!(&(dyn Send + Sync))),
            (quote!((#text, #lent)), quote!((str, &str))),
            (quote!(dyn Fn(#text) -> #lent), quote!(dyn Fn(str) -> &str)),
        ] {
            let mut ty = syn::parse2(given).unwrap();
            ungroup(&mut ty);
            assert_eq!(ty.to_token_stream().to_string(), seen.to_string());
        }
    }
}
