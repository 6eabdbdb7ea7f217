//! Types as they are written: a macro sees names, and no definitions.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::BTreeSet;
use syn::visit_mut::{self, VisitMut};
use syn::{
    GenericArgument, Lifetime, PathArguments, PathSegment, Type, TypePath, TypeReference,
    parse_quote_spanned,
};

/// The standard library's types that are a descriptor and nothing else.
const DESCRIPTORS: &str = "OwnedFd BorrowedFd File UnixStream UnixDatagram UnixListener TcpStream TcpListener UdpSocket \
                           ChildStdin ChildStdout ChildStderr PipeReader PipeWriter";

/// Returns the name of a type that is written like one of [`DESCRIPTORS`].
pub(crate) fn descriptor(ty: &Type) -> Option<&Ident> {
    let name = &std_name(ty)?.ident;
    let mut known = DESCRIPTORS.split(' ');
    known.any(|known| name == known).then_some(name)
}

/// Returns true if a type is written like a descriptor whose name no program gives to a type of its own.
pub(crate) fn is_plain_descriptor(ty: &Type) -> bool {
    descriptor(ty).is_some_and(|name| name == "OwnedFd" || name == "BorrowedFd")
}

/// Returns the last segment of a path that can lead to the standard library: one from `self`, `super` or `crate`
/// leads to a type of the program.
pub(crate) fn std_name(ty: &Type) -> Option<&PathSegment> {
    let first = all_idents(ty).next()?;
    let is_own = ["self", "super", "crate"].iter().any(|own| first == own);
    last_segment(ty).filter(|_| !is_own)
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

/// Returns true if a type is written like one of the language's numbers.
pub(crate) fn is_number(ty: &Type) -> bool {
    const NUMBERS: &str = "u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64";
    NUMBERS.split(' ').any(|name| is_named(ty, name))
}

/// Returns true for numbers, `bool` and `char`.
pub(crate) fn is_primitive(ty: &Type) -> bool {
    is_number(ty) || is_named(ty, "bool") || is_named(ty, "char")
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

/// Removes parentheses, and the groups without delimiters that `macro_rules!` puts around what it was given, as deep in a
/// type as they stand: `&$t` is read as `&str` where `$t` is `str`. A reference to several traits needs its parentheses.
pub(crate) fn ungrouped(mut ty: Type) -> Type {
    struct Ungroup;

    impl VisitMut for Ungroup {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            loop {
                *ty = match ty {
                    Type::Group(group) if has_several_bounds(&group.elem) => {
                        let (elem, span) = (&group.elem, group.group_token.span);
                        parse_quote_spanned!(span=> (#elem))
                    }
                    Type::Group(group) => (*group.elem).clone(),
                    Type::Paren(paren) if !has_several_bounds(&paren.elem) => (*paren.elem).clone(),
                    _ => break,
                };
            }
            visit_mut::visit_type_mut(self, ty);
        }
    }

    Ungroup.visit_type_mut(&mut ty);
    ty
}

fn has_several_bounds(ty: &Type) -> bool {
    match ty {
        Type::TraitObject(object) => object.bounds.len() > 1,
        Type::ImplTrait(object) => object.bounds.len() > 1,
        _ => false,
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

/// Returns all tokens in the order of the text, those inside of groups included.
pub(crate) fn all_tokens(tokens: impl ToTokens) -> Vec<TokenTree> {
    let inside = |token: TokenTree| match &token {
        TokenTree::Group(group) => all_tokens(group.stream()),
        _ => vec![token],
    };
    let tokens = tokens.into_token_stream().into_iter();
    tokens.flat_map(inside).collect()
}

/// Returns all identifiers.
pub(crate) fn all_idents(tokens: impl ToTokens) -> impl Iterator<Item = Ident> {
    let tokens = all_tokens(tokens).into_iter();
    tokens.filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident),
        _ => None,
    })
}

/// Returns all lifetimes.
pub(crate) fn lifetimes(tokens: impl ToTokens) -> BTreeSet<Lifetime> {
    let tokens = all_tokens(tokens);
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let lifetimes = pairs.filter_map(|pair| match pair {
        (TokenTree::Punct(tick), TokenTree::Ident(ident)) if tick.as_char() == '\'' => {
            Some(Lifetime {
                apostrophe: tick.span(),
                ident: ident.clone(),
            })
        }
        _ => None,
    });
    lifetimes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::Delimiter;
    use quote::quote;

    #[test]
    fn a_type_is_parsed_through_the_groups_of_macros() {
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
            let ty = ungrouped(syn::parse2(given).unwrap());
            assert_eq!(ty.to_token_stream().to_string(), seen.to_string());
        }
    }
}
