//! The bounds on the impls' parameters: serde's rules, with `Pack` and `Unpack` for fields with `#[fd]`.

use crate::ast::types::{all_idents, all_tokens};
use crate::ast::{Field, Message};
use crate::attr::{Both, DefaultValue};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use std::collections::BTreeSet;
use syn::visit_mut::{self, VisitMut};
use syn::{Generics, Macro, Path, Type, WherePredicate, parse_quote};

/// The parameters of the impl for writing.
pub(crate) fn pack(message: &Message) -> Generics {
    let mut generics = message.generics.clone();
    if explicit(message, &mut generics, |bound| bound.ser.as_deref()) {
        return generics;
    }
    let mut bodies = message.bodies();
    bodies.retain(|(_, variant)| variant.is_none_or(|v| !v.skip_ser && v.bound.ser.is_none()));
    let fields = bodies.into_iter().flat_map(|(body, _)| body.written());
    let bounded = fields.filter(|f| f.attrs.with.ser.is_none() && f.attrs.bound.ser.is_none());
    let bounds = [quote!(__s::Serialize), quote!(__p::Pack)];
    inferred_by_fd(&mut generics, bounded, bounds);
    generics
}

/// The parameters of the impl for reading.
pub(crate) fn unpack(message: &Message) -> Generics {
    let mut generics = with_text(message);
    if explicit(message, &mut generics, |bound| bound.de.as_deref()) {
        return generics;
    }
    let default = quote!(::core::default::Default);
    if let Some((_, DefaultValue::Trait)) = message.attrs.default {
        let whole = message.whole();
        bound(&mut generics, parse_quote!(#whole: #default));
    }
    let mut bodies = message.bodies();
    bodies.retain(|(_, variant)| variant.is_none_or(|v| !v.skip_de && v.bound.de.is_none()));
    let fields = bodies.into_iter().flat_map(|(body, _)| body.read());
    let bounded = fields.filter(|f| f.attrs.with.de.is_none() && f.attrs.bound.de.is_none());
    let bounds = [quote!(__s::Deserialize<'__de>), quote!(__p::Unpack<'__de>)];
    inferred_by_fd(&mut generics, bounded, bounds);
    // A type that only lends descriptors can be written and not read.
    let read = message.fields().filter(|field| !field.attrs.skip_de);
    for field in read.filter(|field| field.attrs.fd.is_some() && lends(&field.ty)) {
        let ty = &field.ty;
        bound(&mut generics, parse_quote!(#ty: __p::UnpackPart<'__de>));
    }
    let is_default = |field: &&Field| matches!(field.attrs.default, Some(DefaultValue::Trait));
    let defaulted = message.fields().filter(is_default);
    inferred(&mut generics, defaulted, &default);
    generics
}

/// The parameters of an impl that needs a bound on the whole type.
pub(crate) fn whole(message: &Message, by: &TokenStream) -> Generics {
    let (mut generics, whole) = (message.generics.clone(), message.whole());
    bound(&mut generics, parse_quote!(#whole: #by));
    generics
}

fn bound(generics: &mut Generics, predicate: WherePredicate) {
    generics.make_where_clause().predicates.push(predicate);
}

/// Returns true if a type has borrowed descriptors in it, or a reference.
fn lends(ty: &Type) -> bool {
    let mut tokens = all_tokens(ty).into_iter();
    tokens.any(|token| ["BorrowedFd", "&"].contains(&&*token.to_string()))
}

/// The parameters of the impl for printing. As in std's derive, every parameter is `Debug`, and so are the types that
/// belong to one and are printed.
pub(crate) fn debug(message: &Message) -> Generics {
    let mut generics = message.generics.clone();
    let mut names = ParamNames::new(&generics);
    let fields = message.fields();
    for field in fields.filter(|field| !field.is_sensitive()) {
        names.visit_type_mut(&mut field.ty.clone());
    }
    let params = names.params.iter().map(ToTokens::to_token_stream);
    let associated = names.associated.iter().map(ToTokens::to_token_stream);
    for ty in params.chain(associated) {
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

/// Returns the type's parameters and the text's lifetime, which outlives those that the fields borrow.
fn with_text(message: &Message) -> Generics {
    let read = message.fields().filter(|field| !field.attrs.skip_de);
    let borrowed: BTreeSet<_> = read.flat_map(|field| &field.borrowed).collect();
    let borrowed = (!borrowed.is_empty()).then(|| {
        let borrowed = borrowed.iter();
        quote!(: #(#borrowed)+*)
    });
    let mut generics = message.generics.clone();
    generics.params.insert(0, parse_quote!('__de #borrowed));
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
    let fields = fields.filter_map(|field| of(&field.attrs.bound));
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
    let mut names = ParamNames::new(generics);
    let mut associated = Vec::new();
    for field in fields {
        names.visit_type_mut(&mut field.ty.clone());
        if let Type::Path(ty) = &field.ty {
            if ty.qself.is_none() && names.is_associated(&ty.path) {
                associated.push(ty);
            }
        }
    }
    let alone = names.alone.iter().map(ToTokens::to_token_stream);
    let associated = associated.into_iter().map(ToTokens::to_token_stream);
    for ty in alone.chain(associated) {
        bound(generics, parse_quote!(#ty: #by));
    }
}

/// Finds what types name of the type parameters.
struct ParamNames {
    params: BTreeSet<Ident>,
    /// The parameters that stand by themselves, except in `PhantomData<T>`.
    alone: BTreeSet<Ident>,
    /// Types that belong to a parameter, such as `T::Item`, however deep in a type.
    associated: Vec<Path>,
}

impl ParamNames {
    fn new(generics: &Generics) -> Self {
        Self {
            params: generics.type_params().map(|p| p.ident.clone()).collect(),
            alone: BTreeSet::new(),
            associated: Vec::new(),
        }
    }

    fn is_associated(&self, path: &Path) -> bool {
        let first = path.segments.first();
        let of_param = first.is_some_and(|first| self.params.contains(&first.ident));
        of_param && path.leading_colon.is_none() && path.segments.len() > 1
    }
}

impl VisitMut for ParamNames {
    fn visit_path_mut(&mut self, path: &mut Path) {
        if self.is_associated(path) {
            self.associated.push(path.clone());
        }
        self.alone.extend(
            path.get_ident()
                .filter(|ident| self.params.contains(ident))
                .cloned(),
        );
        let last = path.segments.last();
        let phantom = last.is_some_and(|last| last.ident == "PhantomData");
        let outside = phantom.then(|| self.alone.clone());
        visit_mut::visit_path_mut(self, path);
        if let Some(outside) = outside {
            self.alone = outside;
        }
    }

    fn visit_macro_mut(&mut self, of: &mut Macro) {
        let given = all_idents(&of.tokens).filter(|ident| self.params.contains(ident));
        self.alone.extend(given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ty: &str) -> ParamNames {
        let mut names = ParamNames::new(&parse_quote!(<T, U>));
        names.visit_type_mut(&mut syn::parse_str(ty).unwrap());
        names
    }

    #[test]
    fn associated_types_of_parameters_are_found_as_in_std() {
        let found = |ty: &str| -> Vec<String> {
            let found = names(ty).associated;
            let found = found.iter().map(ToTokens::to_token_stream);
            found.map(|path| path.to_string()).collect()
        };
        let deep = found("Option<(T::Item, [U::Of::Inner; 2], T)>");
        assert_eq!(deep, ["T :: Item", "U :: Of :: Inner"]);
        assert!(found("Map<T, <T as Iterator>::Item, crate::T::X>").is_empty());
    }

    #[test]
    fn type_parameters_are_found_as_in_serde() {
        let found = |ty: &str| -> Vec<String> {
            let found = names(ty).alone;
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(found("Vec<(T, [U; 2])>"), ["T", "U"]);
        assert_eq!(found("<T as Iterator>::Item"), ["T"]);
        assert_eq!(found("Map<PhantomData<Vec<T>>, U>"), ["U"]);
        assert!(found("T::Item").is_empty());
        assert!(found("crate::T").is_empty());
        assert!(found("T!(U)").iter().all(|name| name == "U"));
    }
}
