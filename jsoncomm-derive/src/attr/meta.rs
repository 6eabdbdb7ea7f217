//! Readers of an attribute's value.

use super::{Both, Case, DefaultValue, named, string};
use crate::ctxt::Ctxt;
use proc_macro2::TokenStream;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, LitStr, Path, Token, WherePredicate, parenthesized, token};

/// Calls `each` for each `name`, `name = value` or `name(...)` in the attributes called `of`.
pub(crate) fn nested(
    cx: &Ctxt,
    attributes: &[Attribute],
    of: &'static str,
    mut each: impl FnMut(&str, &ParseNestedMeta) -> syn::Result<()>,
) {
    for attribute in named(attributes, of) {
        cx.check(attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string);
            each(name.as_deref().unwrap_or_default(), &meta)
        }));
    }
}

/// Reads a value that may be given once into its slot.
pub(crate) fn once<T>(
    cx: &Ctxt,
    meta: &ParseNestedMeta,
    slot: &mut Option<T>,
    read: impl FnOnce(&ParseNestedMeta) -> syn::Result<T>,
) -> syn::Result<()> {
    set(cx, &meta.path, slot, Some(read(meta)?));
    Ok(())
}

/// Reads `= value`, or `(serialize = value, deserialize = value)` with `deserialize` any number of times.
pub(crate) fn both<T: Clone>(
    cx: &Ctxt,
    meta: &ParseNestedMeta,
    slot: &mut Both<T>,
    read: impl Fn(&ParseNestedMeta) -> syn::Result<T>,
) -> syn::Result<()> {
    let (mut ser, mut de) = (None, Vec::new());
    if meta.input.peek(Token![=]) {
        de.push(read(meta)?);
        ser = de.first().cloned();
    } else {
        meta.parse_nested_meta(|meta| {
            if meta.path.is_ident("serialize") {
                ser = Some(read(&meta)?);
            } else if meta.path.is_ident("deserialize") {
                de.push(read(&meta)?);
            } else {
                return Err(meta.error("expected `serialize = ...` or `deserialize = ...`"));
            }
            Ok(())
        })?;
    }
    let mut de = de.into_iter();
    set(cx, &meta.path, &mut slot.ser, ser);
    set(cx, &meta.path, &mut slot.de, de.next());
    slot.more.extend(de);
    Ok(())
}

/// Reads a value that may be given any number of times.
pub(crate) fn add<T>(
    meta: &ParseNestedMeta,
    all: &mut Vec<T>,
    read: impl FnOnce(&ParseNestedMeta) -> syn::Result<T>,
) -> syn::Result<()> {
    all.push(read(meta)?);
    Ok(())
}

/// Keeps the name of an attribute that only serde supports, and skips its value.
pub(crate) fn refused(meta: &ParseNestedMeta, names: &mut Vec<Path>) -> syn::Result<()> {
    names.push(meta.path.clone());
    skip(meta)
}

/// Sets a value that may be set once.
pub(crate) fn set<T>(cx: &Ctxt, path: &Path, slot: &mut Option<T>, value: Option<T>) {
    let Some(value) = value else { return };
    if slot.is_some() {
        cx.error(path, format!("duplicate attribute `{}`", name(path)));
    }
    *slot = Some(value);
}

/// Reads a name without a value; it is kept for errors.
pub(crate) fn flag(meta: &ParseNestedMeta) -> syn::Result<Path> {
    Ok(meta.path.clone())
}

/// Reads `= "text"`.
pub(crate) fn text(meta: &ParseNestedMeta) -> syn::Result<LitStr> {
    let expr: Expr = meta.value()?.parse()?;
    string(&expr).cloned().ok_or_else(|| {
        let message = format!("expected a string: `{} = \"...\"`", name(&meta.path));
        syn::Error::new_spanned(&expr, message)
    })
}

/// Reads `= "path"`.
pub(crate) fn path<T: Parse>(meta: &ParseNestedMeta) -> syn::Result<T> {
    let text = text(meta)?;
    text.parse()
        .map_err(|_| syn::Error::new_spanned(&text, "expected a path in the string"))
}

/// Reads `= "where predicates"`.
pub(crate) fn bounds(meta: &ParseNestedMeta) -> syn::Result<Vec<WherePredicate>> {
    let all = text(meta)?.parse_with(Punctuated::<_, Token![,]>::parse_terminated)?;
    Ok(all.into_iter().collect())
}

/// Reads `= "rule"` of `rename_all`.
pub(crate) fn case(meta: &ParseNestedMeta) -> syn::Result<Case> {
    let text = text(meta)?;
    Case::from_name(&text.value()).ok_or_else(|| {
        let names = Case::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
        syn::Error::new_spanned(&text, format!("expected one of {names}"))
    })
}

/// Reads `default` or `default = "path"`.
pub(crate) fn default(meta: &ParseNestedMeta) -> syn::Result<DefaultValue> {
    if meta.input.peek(Token![=]) {
        Ok(DefaultValue::Path(path(meta)?))
    } else {
        Ok(DefaultValue::Trait)
    }
}

/// Skips the value after the name.
pub(crate) fn skip(meta: &ParseNestedMeta) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(token::Paren) {
        let behind;
        parenthesized!(behind in meta.input);
        behind.parse::<TokenStream>()?;
    }
    Ok(())
}

/// Returns an attribute's name, for errors.
pub(crate) fn name(path: &Path) -> String {
    let names: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
    names.join("::")
}
