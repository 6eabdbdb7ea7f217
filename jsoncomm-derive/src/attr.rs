//! Attributes: what serde's, `#[message(...)]`, `#[fd]` and `#[sensitive]` say, each on its own.
//!
//! Whether they fit together is for `check` to say.

pub(crate) mod case;
mod meta;

use crate::ctxt::Ctxt;
pub(crate) use case::Case;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::collections::BTreeSet;
use syn::meta::ParseNestedMeta;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, ExprLit, ExprPath, Lifetime, Lit, LitStr, Meta, Path, Token, Type,
    WherePredicate,
};

/// A value per direction.
pub(crate) struct Both<T> {
    pub(crate) ser: Option<T>,
    pub(crate) de: Option<T>,
}

impl<T> std::default::Default for Both<T> {
    fn default() -> Self {
        Self {
            ser: None,
            de: None,
        }
    }
}

/// Where an absent member's value comes from.
pub(crate) enum Default {
    /// `Default::default`
    Trait,
    /// A function.
    Path(ExprPath),
}

/// A doc comment: as text, once it is written.
#[derive(Default)]
pub(crate) struct Docs(Vec<Expr>);

impl Docs {
    pub(crate) fn from_syn(attributes: &[Attribute]) -> Self {
        let values = named(attributes, "doc").filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) => Some(pair.value.clone()),
            _ => None,
        });
        Self(values.collect())
    }

    /// The text, unless a part of it comes from a macro such as `include_str!`.
    fn text(&self) -> Option<String> {
        let lines = self.0.iter().map(|value| match value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        });
        let lines: Vec<String> = lines.collect::<Option<_>>()?;
        let text = lines.join("\n");
        // As rustdoc does: what all lines begin with is no part of them.
        let indent = |line: &str| line.len() - line.trim_start().len();
        let full = text.lines().filter(|line| !line.trim().is_empty());
        let least = full.map(indent).min().unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| line.get(least..).unwrap_or_default());
        Some(lines.collect::<Vec<_>>().join("\n").trim().to_owned())
    }
}

impl ToTokens for Docs {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match (self.text(), &self.0) {
            (Some(text), _) => text.to_tokens(tokens),
            (None, parts) => tokens.extend(quote!(::core::concat!(#(#parts, "\n"),*))),
        }
    }
}

/// What `#[deprecated]` says, or nothing; `None` without it.
pub(crate) fn deprecated(attributes: &[Attribute]) -> Option<String> {
    let attribute = named(attributes, "deprecated").next()?;
    let mut note = String::new();
    let text = |value: &Expr| match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => text.value(),
        _ => String::new(),
    };
    match &attribute.meta {
        Meta::Path(_) => {}
        Meta::NameValue(pair) => note = text(&pair.value),
        // What is wrong with it is for the compiler to say.
        Meta::List(_) => drop(attribute.parse_nested_meta(|meta| {
            let value: Expr = meta.value()?.parse()?;
            if meta.path.is_ident("note") {
                note = text(&value);
            }
            Ok(())
        })),
    }
    Some(note)
}

/// The lints that may be broken, as attributes for what is generated: what the user expects somewhere need not be here.
pub(crate) fn allowed<'a>(attributes: impl Iterator<Item = &'a Attribute>) -> Vec<Attribute> {
    let allows = |meta: &Meta| meta.path().is_ident("allow") || meta.path().is_ident("expect");
    let allow = |meta: &Meta| {
        let lints = meta.require_list().ok()?;
        let lints = &lints.tokens;
        Some(quote!(allow(#lints)))
    };
    let each = |attribute: &Attribute| {
        if allows(&attribute.meta) {
            return allow(&attribute.meta);
        }
        if !attribute.path().is_ident("cfg_attr") {
            return None;
        }
        let all = Punctuated::<Meta, Token![,]>::parse_terminated;
        let all = attribute.parse_args_with(all).ok()?;
        let condition = all.first()?;
        let lints = all.iter().skip(1).filter(|meta| allows(meta));
        let lints: Vec<_> = lints.filter_map(allow).collect();
        (!lints.is_empty()).then(|| quote!(cfg_attr(#condition #(, #lints)*)))
    };
    let all = attributes.filter_map(each);
    all.map(|meta| syn::parse_quote!(#[#meta])).collect()
}

/// What stands on the type.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) rename: Both<String>,
    pub(crate) rename_all: Both<Case>,
    pub(crate) rename_all_fields: Both<Case>,
    pub(crate) strict: bool,
    pub(crate) default: Option<(Path, Default)>,
    pub(crate) tag: Option<LitStr>,
    pub(crate) content: Option<LitStr>,
    pub(crate) transparent: Option<Path>,
    pub(crate) bound: Both<Vec<WherePredicate>>,
    pub(crate) expecting: Option<String>,
    /// What serde has and this derive has not.
    pub(crate) refused: Vec<Path>,
    /// `#[message(serde)]`
    pub(crate) delegate: Option<Path>,
    pub(crate) library: Option<Path>,
    /// `#[message(schema)]`
    pub(crate) schema: Option<Path>,
    pub(crate) service: Option<LitStr>,
    pub(crate) reply: Option<Type>,
    pub(crate) error: Option<Type>,
}

impl Container {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute]) -> Self {
        let mut this = Self::default();
        no_mark(cx, attributes);
        for attribute in named(attributes, "message") {
            this.message(cx, attribute);
        }
        for attribute in named(attributes, "serde") {
            if this.delegate.is_none() {
                this.serde(cx, attribute);
            }
        }
        // Fields of a packed struct cannot be borrowed; serde copies them, and no descriptor can be copied.
        for attribute in named(attributes, "repr") {
            meta::nested(cx, attribute, |name, meta| match name {
                "packed" => meta::refused(meta, &mut this.refused),
                _ => meta::skip(meta),
            });
        }
        this
    }

    fn message(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| {
            match name {
            "serde" => meta::once(cx, meta, &mut self.delegate, meta::flag),
            "crate" => meta::once(cx, meta, &mut self.library, meta::path),
            "schema" => meta::once(cx, meta, &mut self.schema, meta::flag),
            "service" => meta::once(cx, meta, &mut self.service, meta::text),
            "reply" => meta::once(cx, meta, &mut self.reply, |meta| meta.value()?.parse()),
            "error" => meta::once(cx, meta, &mut self.error, |meta| meta.value()?.parse()),
            _ => Err(meta.error(
                "expected `serde`, `schema`, `crate = \"...\"`, `service = \"...\"`, `reply = ...` or \
                 `error = ...`",
            )),
        }
        });
    }

    fn serde(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| match name {
            "rename" => meta::both(cx, meta, &mut self.rename, value),
            "rename_all" => meta::both(cx, meta, &mut self.rename_all, meta::case),
            "rename_all_fields" => meta::both(cx, meta, &mut self.rename_all_fields, meta::case),
            "deny_unknown_fields" => {
                self.strict = true;
                Ok(())
            }
            "default" => meta::once(cx, meta, &mut self.default, |meta| {
                Ok((meta.path.clone(), meta::default(meta)?))
            }),
            "tag" => meta::once(cx, meta, &mut self.tag, meta::text),
            "content" => meta::once(cx, meta, &mut self.content, meta::text),
            "transparent" => meta::once(cx, meta, &mut self.transparent, meta::flag),
            "bound" => meta::both(cx, meta, &mut self.bound, meta::bounds),
            "expecting" => meta::once(cx, meta, &mut self.expecting, value),
            "crate" => meta::skip(meta),
            "untagged" | "from" | "try_from" | "into" | "remote" | "variant_identifier"
            | "field_identifier" => meta::refused(meta, &mut self.refused),
            _ => Err(unknown(&meta.path)),
        });
    }
}

/// What stands on an enum's variant.
#[derive(Default)]
pub(crate) struct Variant {
    pub(crate) rename: Both<String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) rename_all: Both<Case>,
    pub(crate) skip_ser: bool,
    pub(crate) skip_de: bool,
    pub(crate) skip: Option<Path>,
    pub(crate) alias: Option<Path>,
    /// `#[message(other)]`
    pub(crate) other: Option<Path>,
    pub(crate) bound: Both<Vec<WherePredicate>>,
    pub(crate) refused: Vec<Path>,
}

impl Variant {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute], delegate: bool) -> Self {
        let mut this = Self::default();
        no_mark(cx, attributes);
        for attribute in named(attributes, "message") {
            meta::nested(cx, attribute, |name, meta| match name {
                "other" => meta::once(cx, meta, &mut this.other, meta::flag),
                _ => Err(meta.error("expected `other`; the rest belongs on the type")),
            });
        }
        for attribute in named(attributes, "serde").filter(|_| !delegate) {
            this.serde(cx, attribute);
        }
        this
    }

    fn serde(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| match name {
            "rename" => rename(cx, meta, &mut self.rename, &mut self.aliases),
            "alias" => {
                self.alias = Some(meta.path.clone());
                meta::add(meta, &mut self.aliases, value)
            }
            "rename_all" => meta::both(cx, meta, &mut self.rename_all, meta::case),
            "skip" | "skip_serializing" | "skip_deserializing" => {
                self.skip_ser |= name != "skip_deserializing";
                self.skip_de |= name != "skip_serializing";
                self.skip = Some(meta.path.clone());
                Ok(())
            }
            "bound" => meta::both(cx, meta, &mut self.bound, meta::bounds),
            "untagged" | "other" | "with" | "serialize_with" | "deserialize_with" | "borrow" => {
                meta::refused(meta, &mut self.refused)
            }
            _ => Err(unknown(&meta.path)),
        });
    }
}

/// What stands on a service's method.
#[derive(Default)]
pub(crate) struct Method {
    pub(crate) rename: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
}

impl Method {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute]) -> Self {
        let mut this = Self::default();
        for attribute in named(attributes, "serde") {
            meta::nested(cx, attribute, |name, meta| match name {
                "rename" => meta::once(cx, meta, &mut this.rename, meta::text),
                "alias" => meta::add(meta, &mut this.aliases, meta::text),
                _ => Err(meta.error("a method has `rename = \"...\"` and `alias = \"...\"`")),
            });
        }
        this
    }
}

/// What stands on a field.
#[derive(Default)]
pub(crate) struct Field {
    pub(crate) fd: Option<Path>,
    pub(crate) sensitive: Option<Path>,
    pub(crate) rename: Both<String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) default: Option<Default>,
    pub(crate) skip_ser: bool,
    pub(crate) skip_de: bool,
    pub(crate) skip_if: Option<ExprPath>,
    pub(crate) with: Both<ExprPath>,
    /// The attribute that set `with`, for complaints.
    pub(crate) with_path: Option<Path>,
    pub(crate) bound: Both<Vec<WherePredicate>>,
    /// `borrow`: the attribute, and the lifetimes if it names them.
    pub(crate) borrow: Option<(Path, BTreeSet<Lifetime>)>,
    pub(crate) refused: Vec<Path>,
}

impl Field {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute], delegate: bool) -> Self {
        let mut this = Self::default();
        mark(cx, attributes, "fd", &mut this.fd);
        mark(cx, attributes, "sensitive", &mut this.sensitive);
        no_message(cx, attributes);
        for attribute in named(attributes, "serde").filter(|_| !delegate) {
            this.serde(cx, attribute);
        }
        this
    }

    fn serde(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| match name {
            "rename" => rename(cx, meta, &mut self.rename, &mut self.aliases),
            "alias" => meta::add(meta, &mut self.aliases, value),
            "default" => meta::once(cx, meta, &mut self.default, meta::default),
            "skip" | "skip_serializing" | "skip_deserializing" => {
                self.skip_ser |= name != "skip_deserializing";
                self.skip_de |= name != "skip_serializing";
                Ok(())
            }
            "skip_serializing_if" => meta::once(cx, meta, &mut self.skip_if, meta::path),
            "with" | "serialize_with" | "deserialize_with" => {
                self.with_path = Some(meta.path.clone());
                let functions = with(name, meta::path(meta)?);
                meta::set_both(cx, &meta.path, &mut self.with, functions);
                Ok(())
            }
            "bound" => meta::both(cx, meta, &mut self.bound, meta::bounds),
            "borrow" => meta::once(cx, meta, &mut self.borrow, |meta| {
                let lifetimes = match meta.input.peek(Token![=]) {
                    true => meta::text(meta)?.parse_with(lifetimes)?,
                    false => BTreeSet::new(),
                };
                Ok((meta.path.clone(), lifetimes))
            }),
            "flatten" | "getter" => meta::refused(meta, &mut self.refused),
            _ => Err(unknown(&meta.path)),
        });
    }
}

/// Reads a string's text.
fn value(meta: &ParseNestedMeta) -> syn::Result<String> {
    meta::text(meta).map(|text| text.value())
}

/// Reads a name; of several for reading the others are aliases.
fn rename(
    cx: &Ctxt,
    meta: &ParseNestedMeta,
    slot: &mut Both<String>,
    aliases: &mut Vec<String>,
) -> syn::Result<()> {
    let (ser, de) = meta::split(meta, value)?;
    let mut de = de.into_iter();
    let name = Both { ser, de: de.next() };
    meta::set_both(cx, &meta.path, slot, name);
    aliases.extend(de);
    Ok(())
}

/// The functions that `with`, `serialize_with` or `deserialize_with` names.
fn with(name: &str, function: ExprPath) -> Both<ExprPath> {
    let within = |last: &str| {
        let mut function = function.clone();
        let span = function
            .path
            .segments
            .last()
            .map_or_else(proc_macro2::Span::call_site, |segment| segment.ident.span());
        let last = syn::Ident::new(last, span);
        function.path.segments.push(last.into());
        Some(function)
    };
    match name {
        "serialize_with" => Both {
            ser: Some(function),
            de: None,
        },
        "deserialize_with" => Both {
            ser: None,
            de: Some(function),
        },
        _ => Both {
            ser: within("serialize"),
            de: within("deserialize"),
        },
    }
}

/// Reads `'a + 'b`.
fn lifetimes(input: ParseStream) -> syn::Result<BTreeSet<Lifetime>> {
    let all = syn::punctuated::Punctuated::<_, Token![+]>::parse_separated_nonempty(input)?;
    Ok(all.into_iter().collect())
}

/// The attributes of one name.
fn named<'a>(
    attributes: &'a [Attribute],
    name: &'static str,
) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |a| a.path().is_ident(name))
}

/// Reads an attribute that is a name and no more.
fn mark(cx: &Ctxt, attributes: &[Attribute], name: &'static str, slot: &mut Option<Path>) {
    for attribute in named(attributes, name) {
        let path = attribute.path();
        meta::set(cx, path, slot, Some(path.clone()));
        if !matches!(attribute.meta, Meta::Path(_)) {
            let message = format!("write `#[{name}]`, without anything behind it");
            cx.complain(&attribute.meta, message);
        }
    }
}

fn no_mark(cx: &Ctxt, attributes: &[Attribute]) {
    for attribute in named(attributes, "fd") {
        let message = "`#[fd]` belongs on the field that holds the descriptor";
        cx.complain(attribute.path(), message);
    }
    no_sensitive(cx, attributes, "field");
}

/// Complains about `#[sensitive]` on what is no field or argument.
pub(crate) fn no_sensitive(cx: &Ctxt, attributes: &[Attribute], what: &str) {
    for attribute in named(attributes, "sensitive") {
        let message = format!("`#[sensitive]` belongs on each {what} that is");
        cx.complain(attribute.path(), message);
    }
}

fn no_message(cx: &Ctxt, attributes: &[Attribute]) {
    for attribute in named(attributes, "message") {
        cx.complain(attribute.path(), "`#[message(...)]` belongs on the type");
    }
}

fn unknown(path: &Path) -> syn::Error {
    let name = meta::name(path);
    syn::Error::new_spanned(path, format!("serde has no attribute `{name}` here"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn a_comment_is_what_rustdoc_shows() {
        let text = |attributes: &[Attribute]| Docs::from_syn(attributes).text();
        let lines: [Attribute; 4] = [
            parse_quote!(#[doc = " One."]),
            parse_quote!(#[doc(hidden)]),
            parse_quote!(#[doc = ""]),
            parse_quote!(#[doc = "   more"]),
        ];
        assert_eq!(text(&lines).as_deref(), Some("One.\n\n  more"));
        assert_eq!(text(&[]).as_deref(), Some(""));
        let file: Attribute = parse_quote!(#[doc = include_str!("a.md")]);
        assert_eq!(text(&[file]), None);
    }

    #[test]
    fn a_deprecation_is_known_however_it_is_written() {
        let note = |attribute: Attribute| deprecated(&[attribute]);
        assert_eq!(note(parse_quote!(#[deprecated])).as_deref(), Some(""));
        assert_eq!(
            note(parse_quote!(#[deprecated = "x"])).as_deref(),
            Some("x")
        );
        let list = parse_quote!(#[deprecated(since = "1.0.0", note = "x")]);
        assert_eq!(note(list).as_deref(), Some("x"));
        assert_eq!(note(parse_quote!(#[doc = "x"])), None);
    }
}
