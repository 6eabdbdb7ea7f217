//! Attributes: what serde's, `#[message(...)]` and `#[fd]` say, each on its own.
//!
//! Whether they fit together is for `check` to say.

pub(crate) mod case;
mod meta;

use crate::ctxt::Ctxt;
pub(crate) use case::Case;
use std::collections::BTreeSet;
use syn::parse::ParseStream;
use syn::{Attribute, ExprPath, Lifetime, LitStr, Meta, Path, Token, Type, WherePredicate};

/// A value per direction.
pub(crate) struct Both<T> {
    pub(crate) ser: Option<T>,
    pub(crate) de: Option<T>,
}

impl<T> Both<T> {
    const NONE: Self = Self {
        ser: None,
        de: None,
    };
}

/// Where an absent member's value comes from.
pub(crate) enum Default {
    /// `Default::default`
    Trait,
    /// A function.
    Path(ExprPath),
}

/// What stands on the type.
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
    pub(crate) service: Option<LitStr>,
    pub(crate) reply: Option<Type>,
    pub(crate) error: Option<Type>,
}

impl Container {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute]) -> Self {
        let mut this = Self {
            rename: Both::NONE,
            rename_all: Both::NONE,
            rename_all_fields: Both::NONE,
            strict: false,
            default: None,
            tag: None,
            content: None,
            transparent: None,
            bound: Both::NONE,
            expecting: None,
            refused: Vec::new(),
            delegate: None,
            library: None,
            service: None,
            reply: None,
            error: None,
        };
        no_fd(cx, attributes);
        for attribute in named(attributes, "message") {
            this.message(cx, attribute);
        }
        for attribute in named(attributes, "serde") {
            if this.delegate.is_none() {
                this.serde(cx, attribute);
            }
        }
        this
    }

    fn message(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| {
            let path = &meta.path;
            match name {
                "serde" => meta::once(cx, path, &mut self.delegate, Some(path.clone())),
                "crate" => {
                    let library = meta::syntax(meta, "a path")?;
                    meta::once(cx, path, &mut self.library, Some(library));
                }
                "service" => meta::once(cx, path, &mut self.service, Some(meta::text(meta)?)),
                "reply" => meta::once(cx, path, &mut self.reply, Some(meta.value()?.parse()?)),
                "error" => meta::once(cx, path, &mut self.error, Some(meta.value()?.parse()?)),
                _ => return Err(meta.error(
                    "expected `serde`, `crate = \"...\"`, `service = \"...\"`, `reply = ...` or \
                     `error = ...`",
                )),
            }
            Ok(())
        });
    }

    fn serde(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| {
            let path = &meta.path;
            match name {
                "rename" => meta::both(cx, path, &mut self.rename, meta::split(meta, value)?),
                "rename_all" => {
                    meta::both(
                        cx,
                        path,
                        &mut self.rename_all,
                        meta::split(meta, meta::case)?,
                    );
                }
                "rename_all_fields" => {
                    let cases = meta::split(meta, meta::case)?;
                    meta::both(cx, path, &mut self.rename_all_fields, cases);
                }
                "deny_unknown_fields" => self.strict = true,
                "default" => {
                    let default = (path.clone(), meta::default(meta)?);
                    meta::once(cx, path, &mut self.default, Some(default));
                }
                "tag" => meta::once(cx, path, &mut self.tag, Some(meta::text(meta)?)),
                "content" => meta::once(cx, path, &mut self.content, Some(meta::text(meta)?)),
                "transparent" => meta::once(cx, path, &mut self.transparent, Some(path.clone())),
                "bound" => {
                    meta::both(cx, path, &mut self.bound, meta::split(meta, meta::bounds)?);
                }
                "expecting" => meta::once(cx, path, &mut self.expecting, Some(value(meta)?)),
                "crate" => meta::skip(meta)?,
                "untagged" | "from" | "try_from" | "into" | "remote" | "variant_identifier"
                | "field_identifier" => {
                    self.refused.push(path.clone());
                    meta::skip(meta)?;
                }
                _ => return Err(unknown(path)),
            }
            Ok(())
        });
    }
}

/// What stands on an enum's variant.
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
        let mut this = Self {
            rename: Both::NONE,
            aliases: Vec::new(),
            rename_all: Both::NONE,
            skip_ser: false,
            skip_de: false,
            skip: None,
            alias: None,
            other: None,
            bound: Both::NONE,
            refused: Vec::new(),
        };
        no_fd(cx, attributes);
        for attribute in named(attributes, "message") {
            meta::nested(cx, attribute, |name, meta| match name {
                "other" => {
                    meta::once(cx, &meta.path, &mut this.other, Some(meta.path.clone()));
                    Ok(())
                }
                _ => Err(meta.error("expected `other`; the rest belongs on the type")),
            });
        }
        for attribute in named(attributes, "serde").filter(|_| !delegate) {
            this.serde(cx, attribute);
        }
        this
    }

    fn serde(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| {
            let path = &meta.path;
            match name {
                "rename" => {
                    let (ser, de) = meta::split_many(meta, value)?;
                    rename(cx, path, &mut self.rename, &mut self.aliases, ser, de);
                }
                "alias" => {
                    self.aliases.push(value(meta)?);
                    self.alias = Some(path.clone());
                }
                "rename_all" => {
                    meta::both(
                        cx,
                        path,
                        &mut self.rename_all,
                        meta::split(meta, meta::case)?,
                    );
                }
                "skip" | "skip_serializing" | "skip_deserializing" => {
                    self.skip_ser |= name != "skip_deserializing";
                    self.skip_de |= name != "skip_serializing";
                    self.skip = Some(path.clone());
                }
                "bound" => {
                    meta::both(cx, path, &mut self.bound, meta::split(meta, meta::bounds)?);
                }
                "untagged" | "other" | "with" | "serialize_with" | "deserialize_with"
                | "borrow" => {
                    self.refused.push(path.clone());
                    meta::skip(meta)?;
                }
                _ => return Err(unknown(path)),
            }
            Ok(())
        });
    }
}

/// What stands on a service's method.
pub(crate) struct Method {
    pub(crate) rename: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
}

impl Method {
    pub(crate) fn from_syn(cx: &Ctxt, attributes: &[Attribute]) -> Self {
        let mut this = Self {
            rename: None,
            aliases: Vec::new(),
        };
        for attribute in named(attributes, "serde") {
            meta::nested(cx, attribute, |name, meta| {
                match name {
                    "rename" => {
                        let text = meta::text(meta)?;
                        meta::once(cx, &meta.path, &mut this.rename, Some(text));
                    }
                    "alias" => this.aliases.push(meta::text(meta)?),
                    _ => {
                        return Err(
                            meta.error("a method has `rename = \"...\"` and `alias = \"...\"`")
                        );
                    }
                }
                Ok(())
            });
        }
        this
    }
}

/// What stands on a field.
pub(crate) struct Field {
    pub(crate) fd: Option<Path>,
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
        let mut this = Self {
            fd: None,
            rename: Both::NONE,
            aliases: Vec::new(),
            default: None,
            skip_ser: false,
            skip_de: false,
            skip_if: None,
            with: Both::NONE,
            with_path: None,
            bound: Both::NONE,
            borrow: None,
            refused: Vec::new(),
        };
        for attribute in named(attributes, "fd") {
            if matches!(attribute.meta, Meta::Path(_)) {
                let path = attribute.path().clone();
                meta::once(cx, attribute.path(), &mut this.fd, Some(path));
            } else {
                cx.complain(&attribute.meta, "write `#[fd]`, without anything behind it");
            }
        }
        no_message(cx, attributes);
        for attribute in named(attributes, "serde").filter(|_| !delegate) {
            this.serde(cx, attribute);
        }
        this
    }

    fn serde(&mut self, cx: &Ctxt, attribute: &Attribute) {
        meta::nested(cx, attribute, |name, meta| {
            let path = &meta.path;
            match name {
                "rename" => {
                    let (ser, de) = meta::split_many(meta, value)?;
                    rename(cx, path, &mut self.rename, &mut self.aliases, ser, de);
                }
                "alias" => self.aliases.push(value(meta)?),
                "default" => {
                    meta::once(cx, path, &mut self.default, Some(meta::default(meta)?));
                }
                "skip" | "skip_serializing" | "skip_deserializing" => {
                    self.skip_ser |= name != "skip_deserializing";
                    self.skip_de |= name != "skip_serializing";
                }
                "skip_serializing_if" => {
                    let function = meta::syntax(meta, "a path")?;
                    meta::once(cx, path, &mut self.skip_if, Some(function));
                }
                "with" | "serialize_with" | "deserialize_with" => {
                    self.with_path = Some(path.clone());
                    let function: ExprPath = meta::syntax(meta, "a path")?;
                    meta::both(cx, path, &mut self.with, with(name, function));
                }
                "bound" => {
                    meta::both(cx, path, &mut self.bound, meta::split(meta, meta::bounds)?);
                }
                "borrow" => {
                    let lifetimes = match meta.input.peek(Token![=]) {
                        true => meta::text(meta)?.parse_with(lifetimes)?,
                        false => BTreeSet::new(),
                    };
                    meta::once(cx, path, &mut self.borrow, Some((path.clone(), lifetimes)));
                }
                "flatten" | "getter" => {
                    self.refused.push(path.clone());
                    meta::skip(meta)?;
                }
                _ => return Err(unknown(path)),
            }
            Ok(())
        });
    }
}

/// Reads a string's text.
fn value(meta: &syn::meta::ParseNestedMeta) -> syn::Result<String> {
    meta::text(meta).map(|text| text.value())
}

/// Sets a name; of several for reading the others are aliases.
fn rename(
    cx: &Ctxt,
    path: &Path,
    slot: &mut Both<String>,
    aliases: &mut Vec<String>,
    ser: Option<String>,
    mut de: Vec<String>,
) {
    let rest = de.split_off(de.len().min(1));
    let de = de.pop();
    meta::both(cx, path, slot, Both { ser, de });
    aliases.extend(rest);
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

fn no_fd(cx: &Ctxt, attributes: &[Attribute]) {
    for attribute in named(attributes, "fd") {
        let message = "`#[fd]` belongs on the field that holds the descriptor";
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
