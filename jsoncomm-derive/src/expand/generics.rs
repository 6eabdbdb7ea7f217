//! The bounds on the impls' parameters: serde's rules, with `Pack` and `Unpack` for fields with `#[fd]`.

use crate::ast::types::all_tokens;
use crate::ast::{Field, Message};
use crate::attr::{Both, DefaultValue};
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use std::collections::BTreeSet;
use syn::{Generics, Type, WherePredicate, parse_quote};

/// The parameters of the impl for writing.
pub(crate) fn pack(message: &Message) -> Generics {
    let mut generics = message.generics.clone();
    if explicit(message, &mut generics, |bound| bound.ser.as_deref()) {
        return generics;
    }
    let bounded = message.fields().filter(|(field, variant)| {
        let attrs = &field.attrs;
        let own = attrs.skip_ser || attrs.with.ser.is_some() || attrs.bound.ser.is_some();
        !own && variant.is_none_or(|v| !v.skip_ser && v.bound.ser.is_none())
    });
    let bounded = bounded.map(|(field, _)| field);
    inferred_by_fd(
        &mut generics,
        bounded,
        [quote!(__p::serde::Serialize), quote!(__p::Pack)],
    );
    generics
}

/// The parameters of the impl for reading, without the text's lifetime.
pub(crate) fn unpack(message: &Message) -> Generics {
    let mut generics = message.generics.clone();
    if explicit(message, &mut generics, |bound| bound.de.as_deref()) {
        return generics;
    }
    let default = quote!(::core::default::Default);
    if let Some((_, DefaultValue::Trait)) = message.attrs.default {
        let ident = &message.ident;
        let (_, params, _) = message.generics.split_for_impl();
        bound(&mut generics, parse_quote!(#ident #params: #default));
    }
    let bounded = message.fields().filter(|(field, variant)| {
        let attrs = &field.attrs;
        let own = attrs.skip_de || attrs.with.de.is_some() || attrs.bound.de.is_some();
        !own && variant.is_none_or(|v| !v.skip_de && v.bound.de.is_none())
    });
    let bounded = bounded.map(|(field, _)| field);
    let bounds = [
        quote!(__p::serde::Deserialize<'__de>),
        quote!(__p::Unpack<'__de>),
    ];
    inferred_by_fd(&mut generics, bounded, bounds);
    // A type that only lends descriptors can be written and not read.
    let read = message.fields().filter(|(field, _)| !field.attrs.skip_de);
    for (field, _) in read.filter(|(field, _)| field.attrs.fd.is_some() && lends(&field.ty)) {
        let ty = &field.ty;
        bound(&mut generics, parse_quote!(#ty: __p::UnpackPart<'__de>));
    }
    let defaulted = message.fields().map(|(field, _)| field);
    let defaulted =
        defaulted.filter(|field| matches!(field.attrs.default, Some(DefaultValue::Trait)));
    inferred(&mut generics, defaulted, &default);
    generics
}

fn bound(generics: &mut Generics, predicate: WherePredicate) {
    generics.make_where_clause().predicates.push(predicate);
}

/// Returns true if a type has borrowed descriptors in it, or a reference.
fn lends(ty: &Type) -> bool {
    all_tokens(ty).iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "BorrowedFd",
        TokenTree::Punct(punct) => punct.as_char() == '&',
        _ => false,
    })
}

/// The parameters of the impl for printing. As in std's derive, every parameter is `Debug`, and so are the types that
/// belong to one and are printed.
pub(crate) fn debug(message: &Message) -> Generics {
    let mut generics = message.generics.clone();
    let params: Vec<_> = generics.type_params().map(|p| p.ident.clone()).collect();
    let mut all: Vec<_> = params.iter().map(ToTokens::to_token_stream).collect();
    let params = params.into_iter().collect();
    let fields = message.fields().map(|(field, _)| field);
    for field in fields.filter(|field| !field.is_sensitive()) {
        belonging(field.ty.to_token_stream(), &params, &mut all);
    }
    for ty in all {
        bound(&mut generics, parse_quote!(#ty: ::core::fmt::Debug));
    }
    generics
}

/// Writes that there are no descriptors inside, unless a field has `#[fd]`.
pub(crate) fn without_fds(message: &Message) -> Option<TokenStream> {
    let of = quote!(__p::WithoutFds);
    let write = || super::implementation(message, &of, &message.generics, &TokenStream::new());
    (!message.has_fds()).then(write)
}

/// Adds the text's lifetime, which outlives those that the fields borrow.
pub(crate) fn with_text(message: &Message, generics: &Generics) -> Generics {
    let mut borrowed = BTreeSet::new();
    for (field, _) in message.fields().filter(|(field, _)| !field.attrs.skip_de) {
        borrowed.extend(field.borrowed.iter().cloned());
    }
    let mut generics = generics.clone();
    let borrowed = (!borrowed.is_empty()).then(|| {
        let borrowed = borrowed.iter();
        quote!(: #(#borrowed)+*)
    });
    generics.params.insert(0, parse_quote!('__de #borrowed));
    generics
}

/// Adds the lifetime of the value that is written.
pub(crate) fn with_value(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    generics.params.insert(0, parse_quote!('__a));
    generics
}

/// Adds the bounds that serde's `bound` gives, and returns true if those on the type replace all others.
fn explicit(
    message: &Message,
    generics: &mut Generics,
    of: fn(&Both<Vec<WherePredicate>>) -> Option<&[WherePredicate]>,
) -> bool {
    let whole = of(&message.attrs.bound);
    let fields = message.fields();
    let fields = fields.filter_map(|(field, _)| of(&field.attrs.bound));
    let variants = message.variants().iter();
    let variants = variants.filter_map(|variant| of(&variant.attrs.bound));
    for predicate in fields.chain(variants).chain(whole).flatten() {
        bound(generics, predicate.clone());
    }
    whole.is_some()
}

/// Bounds the parameters in fields without `#[fd]` by the first of two bounds, and in fields with it by the second.
fn inferred_by_fd<'a>(
    generics: &mut Generics,
    fields: impl Iterator<Item = &'a Field>,
    [plain, fd]: [TokenStream; 2],
) {
    let (with_fd, without) = fields.partition::<Vec<_>, _>(|field| field.attrs.fd.is_some());
    inferred(generics, without.into_iter(), &plain);
    inferred(generics, with_fd.into_iter(), &fd);
}

/// Bounds the type parameters that the fields' types name, and their associated types.
fn inferred<'a>(
    generics: &mut Generics,
    fields: impl Iterator<Item = &'a Field>,
    by: &TokenStream,
) {
    let params: BTreeSet<Ident> = generics.type_params().map(|p| p.ident.clone()).collect();
    let mut named = BTreeSet::new();
    let mut associated = Vec::new();
    for field in fields {
        named_params(field.ty.to_token_stream(), &params, &mut named);
        if let Type::Path(ty) = &field.ty {
            let segments = &ty.path.segments;
            let of_param = segments.first().is_some_and(|s| params.contains(&s.ident));
            if ty.qself.is_none() && of_param && segments.len() > 1 {
                associated.push(ty);
            }
        }
    }
    let named = generics.type_params().filter(|p| named.contains(&p.ident));
    let idents: Vec<_> = named.map(|param| param.ident.clone()).collect();
    for ident in idents {
        bound(generics, parse_quote!(#ident: #by));
    }
    for ty in associated {
        bound(generics, parse_quote!(#ty: #by));
    }
}

/// Finds the parameters in a type, except in `PhantomData<T>`, `T::Item` and `T!()`.
fn named_params(tokens: TokenStream, params: &BTreeSet<Ident>, found: &mut BTreeSet<Ident>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut depth = 0_usize;
    let mut phantom = None;
    let mut after_colon = false;
    while let Some(token) = tokens.next() {
        let mut colon = false;
        match token {
            TokenTree::Punct(punct) => match punct.as_char() {
                '<' => depth += 1,
                '>' => {
                    depth = depth.saturating_sub(1);
                    phantom = phantom.filter(|&outer| depth > outer);
                }
                ':' => colon = true,
                _ => {}
            },
            TokenTree::Ident(ident) if ident == "PhantomData" => {
                phantom = phantom.or(Some(depth));
            }
            TokenTree::Ident(ident) => {
                let path = matches!(tokens.peek(), Some(TokenTree::Punct(p)) if ":!".contains(p.as_char()));
                if phantom.is_none() && !path && !after_colon && params.contains(&ident) {
                    found.insert(ident);
                }
            }
            TokenTree::Group(group) if phantom.is_none() => {
                named_params(group.stream(), params, found);
            }
            _ => {}
        }
        after_colon = colon;
    }
}

/// Finds the types that belong to a parameter, such as `T::Item`, however deep in the type.
fn belonging(tokens: TokenStream, params: &BTreeSet<Ident>, found: &mut Vec<TokenStream>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut after_colon = false;
    while let Some(token) = tokens.next() {
        let colon = is_colon(&token);
        match token {
            TokenTree::Group(group) => belonging(group.stream(), params, found),
            TokenTree::Ident(ident) if !after_colon && params.contains(&ident) => {
                let mut path = ident.to_token_stream();
                while let Some(more) = tokens.next_if(|next| is_colon(next) || is_ident(next)) {
                    path.extend([more]);
                }
                if path.clone().into_iter().count() > 1 {
                    found.push(path);
                }
            }
            _ => {}
        }
        after_colon = colon;
    }
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

fn is_ident(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident != "as")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ty: &str) -> Vec<String> {
        let params = ["T", "U"].map(|name| syn::parse_str(name).unwrap()).into();
        let mut found = BTreeSet::new();
        named_params(ty.parse().unwrap(), &params, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_belongs_to_a_parameter_is_found_where_std_finds_it() {
        let found = |ty: &str| -> Vec<String> {
            let params = ["T", "U"].map(|name| syn::parse_str(name).unwrap()).into();
            let mut found = Vec::new();
            belonging(ty.parse().unwrap(), &params, &mut found);
            found.iter().map(ToString::to_string).collect()
        };
        let deep = found("Option<(T::Item, [U::Of::Inner; 2], T)>");
        assert_eq!(deep, ["T :: Item", "U :: Of :: Inner"]);
        assert!(found("Map<T, <T as Iterator>::Item, crate::T::X>").is_empty());
    }

    #[test]
    fn parameters_are_found_where_serde_finds_them() {
        assert_eq!(found("Vec<(T, [U; 2])>"), ["T", "U"]);
        assert_eq!(found("<T as Iterator>::Item"), ["T"]);
        assert_eq!(found("Map<PhantomData<Vec<T>>, U>"), ["U"]);
        assert!(found("T::Item").is_empty());
        assert!(found("crate::T").is_empty());
        assert!(found("T!(U)").iter().all(|name| name == "U"));
    }
}
