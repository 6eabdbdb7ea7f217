//! Attributes: serde's, `#[message(...)]`, `#[service(...)]`, `#[fd]` and `#[sensitive]`, read one by one.
//!
//! `check` decides whether they fit together.

pub(crate) mod case;
mod kinds;
mod meta;

use crate::ctxt::Ctxt;
pub(crate) use case::Case;
pub(crate) use kinds::{Kind, Kinds};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use std::collections::BTreeSet;
use syn::meta::ParseNestedMeta;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Block, Expr, ExprLit, ExprPath, Lifetime, Lit, LitStr, Meta, MetaNameValue, Path,
    Token, Type, WherePredicate,
};

/// A value for writing and one for reading.
#[derive(Clone)]
pub(crate) struct Both<T> {
    pub(crate) ser: Option<T>,
    pub(crate) de: Option<T>,
    /// Further values for reading.
    pub(crate) more: Vec<T>,
}

impl<T> Default for Both<T> {
    fn default() -> Self {
        Self {
            ser: None,
            de: None,
            more: Vec::new(),
        }
    }
}

/// Where the value of an absent member comes from.
#[derive(Clone)]
pub(crate) enum DefaultValue {
    /// `Default::default`
    Trait,
    /// A function.
    Path(ExprPath),
}

/// A doc comment, written as the text that rustdoc shows.
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

    /// Returns the text; `None` if a part of it comes from a macro such as `include_str!`.
    fn text(&self) -> Option<String> {
        let parts = self.0.iter().map(|part| Some(string(part)?.value()));
        let text = parts.collect::<Option<Vec<_>>>()?.join("\n");
        // rustdoc removes the indent that all lines have.
        let indent = |line: &str| line.len() - line.trim_start().len();
        let full = text.lines().filter(|line| !line.trim().is_empty());
        let least = full.map(indent).min().unwrap_or_default();
        let lines = text.lines();
        let lines = lines.map(|line| line.get(least..).unwrap_or_default());
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

/// Returns a string literal, through the groups that macros put around it.
fn string(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Some(text),
        Expr::Group(group) => string(&group.expr),
        _ => None,
    }
}

/// Returns the note of `#[deprecated]`, or an empty one; `None` without the attribute.
pub(crate) fn deprecated(attributes: &[Attribute]) -> Option<String> {
    let attribute = named(attributes, "deprecated").next()?;
    let of_list =
        attribute.parse_args_with(Punctuated::<MetaNameValue, Token![,]>::parse_terminated);
    let of_list = of_list.unwrap_or_default().into_iter();
    let note = match &attribute.meta {
        Meta::NameValue(pair) => Some(pair.value.clone()),
        // rustc reports what is wrong with the list.
        _ => of_list
            .filter(|pair| pair.path.is_ident("note"))
            .map(|pair| pair.value)
            .next(),
    };
    Some(
        note.as_ref()
            .and_then(string)
            .map(LitStr::value)
            .unwrap_or_default(),
    )
}

/// Collects the attributes of an item and its parts.
#[derive(Default)]
pub(crate) struct Attributes(Vec<Attribute>);

impl VisitMut for Attributes {
    fn visit_attribute_mut(&mut self, attribute: &mut Attribute) {
        self.0.push(attribute.clone());
    }

    // The lints of a default body do not concern generated code.
    fn visit_block_mut(&mut self, _: &mut Block) {}
}

/// Returns the condition and the attributes of `#[cfg_attr(condition, attributes)]`. rustc reports what is wrong with it.
pub(crate) fn conditional(attribute: &Attribute) -> Option<(Meta, Vec<Meta>)> {
    let list = attribute.path().is_ident("cfg_attr").then_some(attribute)?;
    let all = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let mut all = all.ok()?.into_iter();
    Some((all.next()?, all.collect()))
}

/// Returns `#[allow(...)]` for the lints that attributes allow or expect: a lint that is expected in what the user wrote
/// need not occur in what is generated.
pub(crate) fn allowed(attributes: &Attributes) -> Vec<Attribute> {
    let allow = |meta: &Meta| {
        let allows = meta.path().is_ident("allow") || meta.path().is_ident("expect");
        let lints = &meta.require_list().ok().filter(|_| allows)?.tokens;
        Some(quote!(allow(#lints)))
    };
    let each = |attribute: &Attribute| {
        let Some((condition, metas)) = conditional(attribute) else {
            return allow(&attribute.meta);
        };
        let lints: Vec<_> = metas.iter().filter_map(allow).collect();
        (!lints.is_empty()).then(|| quote!(cfg_attr(#condition #(, #lints)*)))
    };
    let all = attributes.0.iter().filter_map(each);
    all.map(|meta| syn::parse_quote!(#[#meta])).collect()
}

/// The attributes of a type.
#[derive(Default)]
pub(crate) struct TypeAttrs {
    pub(crate) rename: Both<String>,
    pub(crate) rename_all: Both<Case>,
    pub(crate) rename_all_fields: Both<Case>,
    pub(crate) strict: Option<Path>,
    pub(crate) default: Option<(Path, DefaultValue)>,
    pub(crate) tag: Option<LitStr>,
    pub(crate) content: Option<LitStr>,
    pub(crate) transparent: Option<Path>,
    pub(crate) bound: Both<Vec<WherePredicate>>,
    pub(crate) expecting: Option<String>,
    /// Attributes of serde that this derive does not support.
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

impl TypeAttrs {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute]) -> Self {
        let mut this = Self::default();
        no_mark(cx, attributes);
        this.message(cx, attributes);
        if this.delegate.is_none() {
            this.serde(cx, attributes);
        }
        // Fields of a packed struct cannot be borrowed. serde copies them, and a descriptor cannot be copied.
        meta::nested(cx, attributes, "repr", |name, meta| match name {
            "packed" => meta::refused(meta, &mut this.refused),
            _ => meta::skip(meta),
        });
        this
    }

    fn message(&mut self, cx: &Ctxt, attributes: &[Attribute]) {
        let expected = "expected `serde`, `schema`, `crate = \"...\"`, `service = \"...\"`, `reply = ...` or \
                        `error = ...`";
        meta::nested(cx, attributes, "message", |name, meta| match name {
            "serde" => meta::once(cx, meta, &mut self.delegate, meta::flag),
            "crate" => meta::once(cx, meta, &mut self.library, meta::path),
            "schema" => meta::once(cx, meta, &mut self.schema, meta::flag),
            "service" => meta::once(cx, meta, &mut self.service, meta::text),
            "reply" => meta::once(cx, meta, &mut self.reply, |meta| meta.value()?.parse()),
            "error" => meta::once(cx, meta, &mut self.error, |meta| meta.value()?.parse()),
            _ => Err(meta.error(expected)),
        });
    }

    fn serde(&mut self, cx: &Ctxt, attributes: &[Attribute]) {
        meta::nested(cx, attributes, "serde", |name, meta| match name {
            "rename" => meta::both(cx, meta, &mut self.rename, value),
            "rename_all" => meta::both(cx, meta, &mut self.rename_all, meta::case),
            "rename_all_fields" => meta::both(cx, meta, &mut self.rename_all_fields, meta::case),
            "deny_unknown_fields" => meta::once(cx, meta, &mut self.strict, meta::flag),
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

/// The attributes of an enum's variant.
#[derive(Default)]
pub(crate) struct VariantAttrs {
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

impl VariantAttrs {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute], delegate: bool) -> Self {
        let mut this = Self::default();
        no_mark(cx, attributes);
        meta::nested(cx, attributes, "message", |name, meta| match name {
            "other" => meta::once(cx, meta, &mut this.other, meta::flag),
            _ => Err(meta.error("expected `other`; the rest belongs on the type")),
        });
        if !delegate {
            this.serde(cx, attributes);
        }
        this
    }

    fn serde(&mut self, cx: &Ctxt, attributes: &[Attribute]) {
        meta::nested(cx, attributes, "serde", |name, meta| match name {
            "rename" => meta::both(cx, meta, &mut self.rename, value),
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

/// The options of `#[service(...)]`.
#[derive(Default)]
pub(crate) struct ServiceAttrs {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitStr>,
    /// The path of the library; `::jsoncomm` unless given.
    pub(crate) library: Option<Path>,
    /// Types that only serde knows are described by their JSON Schema.
    pub(crate) schema: Option<Path>,
    /// An option could not be read, which has been reported.
    pub(crate) unreadable: bool,
}

impl ServiceAttrs {
    pub(crate) fn from_tokens(cx: &Ctxt, options: TokenStream) -> Self {
        let mut this = Self::default();
        let parser = syn::meta::parser(|meta| match meta.path.get_ident() {
            Some(name) if name == "name" => meta::once(cx, &meta, &mut this.name, meta::text),
            Some(name) if name == "version" => meta::once(cx, &meta, &mut this.version, meta::text),
            Some(name) if name == "crate" => meta::once(cx, &meta, &mut this.library, meta::path),
            Some(name) if name == "schema" => meta::once(cx, &meta, &mut this.schema, meta::flag),
            _ => {
                let options =
                    "`name = \"...\"`, `version = \"...\"`, `crate = \"...\"` or `schema`";
                Err(meta.error(format!("expected {options}")))
            }
        });
        let read = parser.parse2(options);
        this.unreadable = cx.check(read).is_none();
        this
    }
}

/// The attributes of a service's method.
#[derive(Default)]
pub(crate) struct MethodAttrs {
    pub(crate) oneway: Option<Path>,
    /// The version of the service that has added the method.
    pub(crate) since: Option<LitStr>,
    pub(crate) rename: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
}

impl MethodAttrs {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute]) -> Self {
        let mut this = Self::default();
        for attribute in named(attributes, "oneway") {
            cx.check(attribute.meta.require_path_only().map(|_| ()));
            this.oneway.get_or_insert_with(|| attribute.path().clone());
        }
        for attribute in named(attributes, "since") {
            let value = attribute.meta.require_name_value().and_then(|meta| {
                let value = &meta.value;
                syn::parse2::<LitStr>(quote!(#value))
            });
            if let Some(value) = cx.check(value) {
                this.since.get_or_insert(value);
            }
        }
        meta::nested(cx, attributes, "serde", |name, meta| match name {
            "rename" => meta::once(cx, meta, &mut this.rename, meta::text),
            "alias" => meta::add(meta, &mut this.aliases, meta::text),
            _ => Err(meta.error("a method has `rename = \"...\"` and `alias = \"...\"`")),
        });
        this
    }
}

/// The attributes of a field, or of a method's argument.
#[derive(Default, Clone)]
pub(crate) struct FieldAttrs {
    pub(crate) fd: Option<Path>,
    /// `#[fd(...)]`
    pub(crate) kinds: Kinds,
    pub(crate) sensitive: Option<Path>,
    pub(crate) rename: Both<String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) default: Option<DefaultValue>,
    pub(crate) skip_ser: bool,
    pub(crate) skip_de: bool,
    pub(crate) skip_if: Option<ExprPath>,
    pub(crate) with: Both<ExprPath>,
    /// The attribute that set `with`, for errors.
    pub(crate) with_path: Option<Path>,
    pub(crate) bound: Both<Vec<WherePredicate>>,
    /// `borrow`: the attribute, and the lifetimes that it names.
    pub(crate) borrow: Option<(Path, BTreeSet<Lifetime>)>,
    pub(crate) refused: Vec<Path>,
}

impl FieldAttrs {
    /// The function of `default = "..."`.
    pub(crate) fn default_function(&self) -> Option<&ExprPath> {
        match &self.default {
            Some(DefaultValue::Path(path)) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute], delegate: bool) -> Self {
        let mut this = Self::default();
        for attribute in mark(cx, attributes, "fd", &mut this.fd) {
            match &attribute.meta {
                Meta::NameValue(pair) => {
                    let text = "write `#[fd]`, or what it has to be, as in `#[fd(regular, read)]`";
                    cx.error(pair, text);
                }
                _ => this.kinds.read(cx, attribute),
            }
        }
        for attribute in mark(cx, attributes, "sensitive", &mut this.sensitive) {
            if !matches!(attribute.meta, Meta::Path(_)) {
                cx.error(&attribute.meta, "write `#[sensitive]`, without a value");
            }
        }
        let text = "`#[message(...)]` belongs on the type";
        misplaced(cx, attributes, "message", text);
        if !delegate {
            this.serde(cx, attributes);
        }
        this
    }

    fn serde(&mut self, cx: &Ctxt, attributes: &[Attribute]) {
        meta::nested(cx, attributes, "serde", |name, meta| match name {
            "rename" => meta::both(cx, meta, &mut self.rename, value),
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
                let function: ExprPath = meta::path(meta)?;
                let within = |what| match name {
                    "with" => within(&function, what),
                    _ => function.clone(),
                };
                let ser = (name != "deserialize_with").then(|| within("serialize"));
                let de = (name != "serialize_with").then(|| within("deserialize"));
                meta::set(cx, &meta.path, &mut self.with.ser, ser);
                meta::set(cx, &meta.path, &mut self.with.de, de);
                Ok(())
            }
            "bound" => meta::both(cx, meta, &mut self.bound, meta::bounds),
            "borrow" => meta::once(cx, meta, &mut self.borrow, |meta| {
                let lifetimes = if meta.input.peek(Token![=]) {
                    meta::text(meta)?.parse_with(lifetimes)?
                } else {
                    BTreeSet::new()
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

/// Returns a function in the module that `with` names.
fn within(module: &ExprPath, name: &str) -> ExprPath {
    let name = Ident::new(name, module.span());
    syn::parse_quote!(#module::#name)
}

/// Reads `'a + 'b`.
fn lifetimes(input: ParseStream) -> syn::Result<BTreeSet<Lifetime>> {
    let all = syn::punctuated::Punctuated::<_, Token![+]>::parse_separated_nonempty(input)?;
    Ok(all.into_iter().collect())
}

/// Returns the attributes with a name.
fn named<'a>(
    attributes: &'a [Attribute],
    name: &'static str,
) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |a| a.path().is_ident(name))
}

/// Keeps the name of an attribute that may be given once. Returns each, for its values.
fn mark<'a>(
    cx: &Ctxt,
    attributes: &'a [Attribute],
    name: &'static str,
    slot: &mut Option<Path>,
) -> impl Iterator<Item = &'a Attribute> {
    named(attributes, name).inspect(|attribute| {
        let path = attribute.path();
        meta::set(cx, path, slot, Some(path.clone()));
    })
}

fn no_mark(cx: &Ctxt, attributes: &[Attribute]) {
    let text = "`#[fd]` belongs on the field that holds the descriptor";
    misplaced(cx, attributes, "fd", text);
    refuse_sensitive(cx, attributes, "field");
}

/// Refuses `#[fd]` on a method.
pub(crate) fn refuse_fd(cx: &Ctxt, attributes: &[Attribute]) {
    let text = "a result needs no `#[fd]`: what its descriptors have to be is said in a struct, at the field";
    misplaced(cx, attributes, "fd", text);
}

/// Refuses `#[sensitive]` on anything but a field or an argument.
pub(crate) fn refuse_sensitive(cx: &Ctxt, attributes: &[Attribute], what: &str) {
    let text = format!("`#[sensitive]` belongs on each {what} that is sensitive");
    misplaced(cx, attributes, "sensitive", &text);
}

fn misplaced(cx: &Ctxt, attributes: &[Attribute], name: &'static str, text: &str) {
    named(attributes, name).for_each(|attribute| cx.error(attribute.path(), text));
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
    fn a_doc_comment_is_the_text_that_rustdoc_shows() {
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
    fn each_form_of_a_deprecation_note_is_parsed() {
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
