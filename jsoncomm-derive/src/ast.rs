//! The type that `derive(Message)` stands on: its parts, with their names on the wire.

pub(crate) mod service;

use crate::attr::{self, Both, Case};
use crate::ctxt::Ctxt;
use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Fields, GenericParam, Generics, Index, Lifetime, Member, Type,
};

/// A type to be a message.
pub(crate) struct Message {
    pub(crate) ident: Ident,
    /// Without defaults, and with the type's name for `Self`.
    pub(crate) generics: Generics,
    pub(crate) docs: attr::Docs,
    /// The lints that are allowed on it or in it.
    pub(crate) allowed: Vec<Attribute>,
    /// What `#[deprecated]` says, if it is there.
    pub(crate) deprecated: Option<String>,
    pub(crate) attrs: attr::Container,
    /// The names of the type itself, which only other formats than JSON would show.
    pub(crate) name: String,
    /// It is what a service's method is called with.
    pub(crate) arguments: bool,
    pub(crate) shape: Shape,
}

pub(crate) enum Shape {
    Struct(Body),
    Enum(Vec<Variant>),
}

pub(crate) struct Variant {
    pub(crate) ident: Ident,
    pub(crate) docs: attr::Docs,
    pub(crate) attrs: attr::Variant,
    pub(crate) names: Names,
    pub(crate) body: Body,
}

/// The fields of a struct or variant.
pub(crate) struct Body {
    pub(crate) style: Style,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Named,
    Tuple,
    /// Written as its only field: also what is `transparent`.
    Newtype,
    Unit,
}

pub(crate) struct Field {
    pub(crate) member: Member,
    /// What the field is called in generated code.
    pub(crate) local: Ident,
    pub(crate) ty: Type,
    pub(crate) docs: attr::Docs,
    pub(crate) attrs: attr::Field,
    pub(crate) names: Names,
    /// The lifetimes of the text that it may borrow from.
    pub(crate) borrowed: BTreeSet<Lifetime>,
}

/// What something is called on the wire.
pub(crate) struct Names {
    pub(crate) ser: String,
    pub(crate) de: String,
    /// All names that are accepted, `de` among them.
    pub(crate) known: BTreeSet<String>,
}

impl Message {
    pub(crate) fn from_syn(cx: &Ctxt, input: &DeriveInput) -> Option<Self> {
        let attrs = attr::Container::from_syn(cx, &input.attrs);
        let receiver = receiver(input);
        let mut shape = match &input.data {
            Data::Struct(data) => {
                Shape::Struct(Body::from_syn(cx, &data.fields, &attrs, &receiver, None))
            }
            Data::Enum(data) => Shape::Enum(
                data.variants
                    .iter()
                    .map(|variant| Variant::from_syn(cx, variant, &attrs, &receiver))
                    .collect(),
            ),
            Data::Union(data) => {
                cx.complain(
                    data.union_token,
                    "a union cannot be a message: write a struct or an enum",
                );
                return None;
            }
        };
        if let (Shape::Struct(body), Some(path)) = (&mut shape, &attrs.transparent) {
            body.make_transparent(cx, path);
        }
        Some(Self {
            ident: input.ident.clone(),
            docs: attr::Docs::from_syn(&input.attrs),
            allowed: attr::allowed(attributes(input)),
            deprecated: attr::deprecated(&input.attrs),
            generics: generics(cx, input, &receiver)?,
            name: attrs
                .rename
                .ser
                .clone()
                .unwrap_or_else(|| input.ident.unraw().to_string()),
            attrs,
            arguments: false,
            shape,
        })
    }

    /// The type's name as the user writes it.
    pub(crate) fn rust_name(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// Every field, with its variant's attributes.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&Field, Option<&attr::Variant>)> {
        let (body, variants) = match &self.shape {
            Shape::Struct(body) => (Some(body), &[][..]),
            Shape::Enum(variants) => (None, &variants[..]),
        };
        let of_struct = body.into_iter().flat_map(|body| &body.fields);
        let of_variants = variants.iter().flat_map(|variant| {
            let fields = variant.body.fields.iter();
            fields.map(move |field| (field, Some(&variant.attrs)))
        });
        of_struct.map(|field| (field, None)).chain(of_variants)
    }

    /// Says whether a field is sensitive.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.fields().any(|(field, _)| field.is_sensitive())
    }

    /// The enum's variants; none for a struct.
    pub(crate) fn variants(&self) -> &[Variant] {
        match &self.shape {
            Shape::Struct(_) => &[],
            Shape::Enum(variants) => variants,
        }
    }

    /// A method's name, in an enum of requests: the variant's in snake case, unless serde's attributes rename it.
    pub(crate) fn method(&self, variant: &Variant) -> String {
        let renamed = variant.attrs.rename.de.is_some() || self.attrs.rename_all.de.is_some();
        match renamed {
            true => variant.names.de.clone(),
            false => Case::Snake.variant(&variant.ident.unraw().to_string()),
        }
    }

    /// The path of the library's names for generated code.
    pub(crate) fn private(&self) -> TokenStream {
        match &self.attrs.library {
            Some(library) => quote!(#library::private),
            None => quote!(::jsoncomm::private),
        }
    }
}

impl Variant {
    fn from_syn(
        cx: &Ctxt,
        variant: &syn::Variant,
        container: &attr::Container,
        receiver: &TokenStream,
    ) -> Self {
        let attrs = attr::Variant::from_syn(cx, &variant.attrs, container.delegate.is_some());
        let names = Names::new(
            &variant.ident,
            &attrs.rename,
            &attrs.aliases,
            &container.rename_all,
            Case::variant,
        );
        let body = Body::from_syn(cx, &variant.fields, container, receiver, Some(&attrs));
        Self {
            ident: variant.ident.clone(),
            docs: attr::Docs::from_syn(&variant.attrs),
            names,
            body,
            attrs,
        }
    }
}

impl Body {
    fn from_syn(
        cx: &Ctxt,
        fields: &Fields,
        container: &attr::Container,
        receiver: &TokenStream,
        variant: Option<&attr::Variant>,
    ) -> Self {
        let style = match fields {
            Fields::Named(_) => Style::Named,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Style::Newtype,
            Fields::Unnamed(_) => Style::Tuple,
            Fields::Unit => Style::Unit,
        };
        let inner = |of: fn(&Both<Case>) -> Option<Case>| match variant {
            Some(attrs) => of(&attrs.rename_all).or(of(&container.rename_all_fields)),
            None => of(&container.rename_all),
        };
        let cases = Both {
            ser: inner(|both| both.ser),
            de: inner(|both| both.de),
        };
        let fields = fields.iter().enumerate();
        let fields = fields
            .filter_map(|(index, field)| {
                Field::from_syn(cx, index, field, container, receiver, &cases)
            })
            .collect();
        Self { style, fields }
    }

    /// Makes the only field that is not skipped the whole, as serde does.
    fn make_transparent(&mut self, cx: &Ctxt, path: &syn::Path) {
        let mut whole = self.fields.iter_mut().filter_map(|field| {
            let attrs = &mut field.attrs;
            let aside = is_phantom(&field.ty) || attrs.skip_ser || attrs.skip_de;
            attrs.skip_ser |= aside;
            attrs.skip_de |= aside;
            (!aside).then_some(())
        });
        if whole.by_ref().count() != 1 {
            cx.complain(
                path,
                "`transparent` needs exactly one field that is not skipped",
            );
        }
        self.style = Style::Newtype;
    }

    /// The fields that are written.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.attrs.skip_ser)
    }

    /// Says whether a field is sensitive.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.fields.iter().any(Field::is_sensitive)
    }

    /// The fields that are read.
    pub(crate) fn read(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.attrs.skip_de)
    }
}

impl Field {
    pub(crate) fn is_sensitive(&self) -> bool {
        self.attrs.sensitive.is_some()
    }

    fn from_syn(
        cx: &Ctxt,
        index: usize,
        field: &syn::Field,
        container: &attr::Container,
        receiver: &TokenStream,
        cases: &Both<Case>,
    ) -> Option<Self> {
        cx.check(field.modifiers.require_empty());
        if let Some((_, value)) = &field.default {
            cx.complain(
                value,
                "write `#[serde(default)]` for a member that may be absent",
            );
        }
        let delegate = container.delegate.is_some();
        let mut attrs = attr::Field::from_syn(cx, &field.attrs, delegate);
        if attrs.skip_de && container.default.is_none() && attrs.default.is_none() {
            attrs.default = Some(attr::Default::Trait);
        }
        let ty = ungrouped(&field.ty).into_token_stream();
        let ty: Type = cx.check(syn::parse2(replace(ty, receiver)))?;
        let (member, names) = match &field.ident {
            // No Rust, but syn takes it.
            Some(ident) if ident == "_" => {
                cx.complain(ident, "a field needs a name, which is its name on the wire");
                return None;
            }
            Some(ident) => {
                let names = Names::new(ident, &attrs.rename, &attrs.aliases, cases, Case::field);
                (Member::Named(ident.clone()), names)
            }
            None => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                let span = field.ty.span();
                (
                    Member::Unnamed(Index { index, span }),
                    Names::of_element(index),
                )
            }
        };
        Some(Self {
            member,
            local: format_ident!("__f{index}"),
            borrowed: borrowed(cx, &ty, &attrs),
            docs: attr::Docs::from_syn(&field.attrs),
            ty,
            attrs,
            names,
        })
    }
}

impl Names {
    fn new(
        ident: &Ident,
        rename: &Both<String>,
        aliases: &[String],
        cases: &Both<Case>,
        apply: fn(Case, &str) -> String,
    ) -> Self {
        let rust = ident.unraw().to_string();
        let name = |rename: &Option<String>, case: Option<Case>| match (rename, case) {
            (Some(name), _) => name.clone(),
            (None, Some(case)) => apply(case, &rust),
            (None, None) => rust.clone(),
        };
        let de = name(&rename.de, cases.de);
        Self {
            ser: name(&rename.ser, cases.ser),
            known: aliases.iter().chain([&de]).cloned().collect(),
            de,
        }
    }

    /// Of what has none: its place, as it stands in a complaint's path.
    fn of_element(index: u32) -> Self {
        let place = format!("[{index}]");
        Self {
            ser: place.clone(),
            de: place,
            known: BTreeSet::new(),
        }
    }
}

/// The attributes of the type, its variants and its fields.
fn attributes(input: &DeriveInput) -> impl Iterator<Item = &Attribute> {
    let (fields, variants) = match &input.data {
        Data::Struct(data) => (Some(&data.fields), None),
        Data::Enum(data) => (None, Some(&data.variants)),
        Data::Union(_) => (None, None),
    };
    let variants = variants.into_iter().flatten();
    let fields = fields
        .into_iter()
        .chain(variants.clone().map(|variant| &variant.fields));
    let of_fields = fields.flatten().flat_map(|field| &field.attrs);
    let of_variants = variants.flat_map(|variant| &variant.attrs);
    input.attrs.iter().chain(of_variants).chain(of_fields)
}

/// The type's parameters, as they may stand on an impl for another type.
fn generics(cx: &Ctxt, input: &DeriveInput, receiver: &TokenStream) -> Option<Generics> {
    let mut generics = input.generics.clone();
    for param in &mut generics.params {
        match param {
            GenericParam::Type(param) => param.default = None,
            GenericParam::Const(param) => param.default = None,
            GenericParam::Lifetime(_) => {}
        }
    }
    let clause = replace(generics.where_clause.to_token_stream(), receiver);
    generics.where_clause = cx.check(syn::parse2(clause))?;
    let params = replace(generics.to_token_stream(), receiver);
    let clause = generics.where_clause;
    generics = cx.check(syn::parse2(params))?;
    generics.where_clause = clause;
    Some(generics)
}

/// The type with its parameters.
fn receiver(input: &DeriveInput) -> TokenStream {
    let ident = &input.ident;
    let (_, params, _) = input.generics.split_for_impl();
    quote!(#ident #params)
}

/// Writes the type's name for `Self`, which means something else in what we generate.
pub(crate) fn replace(tokens: TokenStream, receiver: &TokenStream) -> TokenStream {
    let each = |token| match token {
        TokenTree::Ident(ident) if ident == "Self" => receiver.clone(),
        TokenTree::Group(group) => {
            let mut replaced = Group::new(group.delimiter(), replace(group.stream(), receiver));
            replaced.set_span(group.span());
            TokenTree::Group(replaced).into()
        }
        other => other.into(),
    };
    tokens.into_iter().flat_map(each).collect()
}

/// The lifetimes a field borrows: those serde's `borrow` says, and of `&str` and `&[u8]` without it.
fn borrowed(cx: &Ctxt, ty: &Type, attrs: &attr::Field) -> BTreeSet<Lifetime> {
    match &attrs.borrow {
        Some((_, named)) if !named.is_empty() => named.clone(),
        Some((path, _)) => {
            let all = lifetimes(ty.to_token_stream());
            if all.is_empty() {
                cx.complain(path, "this field has no lifetime to borrow for");
            }
            all
        }
        None if is_borrowed(ty) || argument(ty, "Option").is_some_and(is_borrowed) => {
            lifetimes(ty.to_token_stream())
        }
        None => BTreeSet::new(),
    }
}

/// Says whether it is `&str` or `&[u8]`, which can be read in no other way.
fn is_borrowed(ty: &Type) -> bool {
    matches!(ty, Type::Reference(to) if to.mutability.is_none() && is_text_or_bytes(&to.elem))
}

fn is_text_or_bytes(ty: &Type) -> bool {
    let ty = ty.to_token_stream().to_string().replace(' ', "");
    ty == "str" || ty == "[u8]"
}

/// Says what a `Cow` that borrows holds: `str` or `[u8]`.
pub(crate) fn cow(field: &Field) -> Option<&Type> {
    let held = argument(&field.ty, "Cow").filter(|held| is_text_or_bytes(held));
    held.filter(|_| !field.borrowed.is_empty() && field.attrs.fd.is_none())
}

pub(crate) fn is_phantom(ty: &Type) -> bool {
    matches!(ty, Type::Path(ty) if ty.path.segments.last().is_some_and(|s| s.ident == "PhantomData"))
}

/// Says whether a type is the standard library's descriptor, by its name.
pub(crate) fn is_descriptor(ty: &Type) -> bool {
    let Type::Path(ty) = ty else {
        return false;
    };
    let last = ty.path.segments.last();
    last.is_some_and(|last| last.ident == "OwnedFd" || last.ident == "BorrowedFd")
}

/// The last type argument of a type with this name.
fn argument<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(ty) = ty else {
        return None;
    };
    let last = ty.path.segments.last().filter(|last| last.ident == name)?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    arguments
        .args
        .iter()
        .rev()
        .find_map(|argument| match argument {
            syn::GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}

/// Takes the invisible parentheses off that `macro_rules!` puts around what it was given, as deep in a type as they may
/// stand: `&$t` is `&str` to us where `$t` is `str`.
pub(crate) fn ungrouped(ty: &Type) -> Type {
    syn::parse2(without_groups(ty.to_token_stream())).unwrap_or_else(|_| ty.clone())
}

fn without_groups(tokens: TokenStream) -> TokenStream {
    let each = |token| {
        let TokenTree::Group(group) = token else {
            return TokenStream::from(token);
        };
        let inside = without_groups(group.stream());
        let delimiter = match group.delimiter() {
            Delimiter::None => match syn::parse2(inside.clone()) {
                Ok(Type::TraitObject(ty)) if ty.bounds.len() > 1 => Delimiter::Parenthesis,
                Ok(Type::ImplTrait(ty)) if ty.bounds.len() > 1 => Delimiter::Parenthesis,
                Ok(_) => return inside,
                // An array's length may be anything.
                Err(_) => Delimiter::None,
            },
            delimiter => delimiter,
        };
        let mut ungrouped = Group::new(delimiter, inside);
        ungrouped.set_span(group.span());
        TokenTree::from(ungrouped).into()
    };
    tokens.into_iter().flat_map(each).collect()
}

/// All lifetimes in a type.
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
    use quote::quote;

    #[test]
    fn a_type_is_seen_through_what_macros_put_around_its_parts() {
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
        ] {
            let ty = ungrouped(&syn::parse2(given).unwrap());
            assert_eq!(ty.to_token_stream().to_string(), seen.to_string());
        }
    }
}
