//! Reading what stands behind one attribute's name.

use super::{Both, Case, Default};
use crate::ctxt::Ctxt;
use std::fmt::Display;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Path, Token, WherePredicate, token};

/// Gives each `name`, `name = value` or `name(...)` of an attribute to `each`.
pub(crate) fn nested(
    cx: &Ctxt,
    attribute: &Attribute,
    mut each: impl FnMut(&str, &ParseNestedMeta) -> syn::Result<()>,
) {
    cx.check(attribute.parse_nested_meta(|meta| {
        let name = meta.path.get_ident().map(ToString::to_string);
        each(name.as_deref().unwrap_or_default(), &meta)
    }));
}

/// Sets what may be set once.
pub(crate) fn once<T>(cx: &Ctxt, path: &Path, slot: &mut Option<T>, value: Option<T>) {
    let Some(value) = value else { return };
    if slot.is_some() {
        cx.complain(path, format!("duplicate attribute `{}`", name(path)));
    }
    *slot = Some(value);
}

/// As [`once`], for the two halves of a value.
pub(crate) fn both<T>(cx: &Ctxt, path: &Path, slot: &mut Both<T>, value: Both<T>) {
    once(cx, path, &mut slot.ser, value.ser);
    once(cx, path, &mut slot.de, value.de);
}

/// Reads `= "text"`.
pub(crate) fn text(meta: &ParseNestedMeta) -> syn::Result<LitStr> {
    let expr: Expr = meta.value()?.parse()?;
    let mut value = &expr;
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(text.clone()),
        _ => {
            let name = name(&meta.path);
            let message = format!("expected a string: `{name} = \"...\"`");
            Err(syn::Error::new_spanned(expr, message))
        }
    }
}

/// Reads `= "syntax"`, such as a path.
pub(crate) fn syntax<T: Parse>(meta: &ParseNestedMeta, what: impl Display) -> syn::Result<T> {
    let text = text(meta)?;
    text.parse()
        .map_err(|_| syn::Error::new_spanned(&text, format!("expected {what} in the string")))
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
pub(crate) fn default(meta: &ParseNestedMeta) -> syn::Result<Default> {
    if meta.input.peek(Token![=]) {
        Ok(Default::Path(syntax(meta, "a path")?))
    } else {
        Ok(Default::Trait)
    }
}

/// Reads `= value`, or `(serialize = value, deserialize = value)`.
pub(crate) fn split<T: Clone>(
    meta: &ParseNestedMeta,
    read: impl Fn(&ParseNestedMeta) -> syn::Result<T>,
) -> syn::Result<Both<T>> {
    let (ser, de) = split_many(meta, read)?;
    Ok(Both {
        ser,
        de: de.into_iter().next(),
    })
}

/// As [`split`], where `deserialize` may stand more than once.
pub(crate) fn split_many<T: Clone>(
    meta: &ParseNestedMeta,
    read: impl Fn(&ParseNestedMeta) -> syn::Result<T>,
) -> syn::Result<(Option<T>, Vec<T>)> {
    if meta.input.peek(Token![=]) {
        let value = read(meta)?;
        return Ok((Some(value.clone()), vec![value]));
    }
    let (mut ser, mut de) = (None, Vec::new());
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
    Ok((ser, de))
}

/// Steps over whatever stands behind the name.
pub(crate) fn skip(meta: &ParseNestedMeta) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(token::Paren) {
        meta.parse_nested_meta(|meta| skip(&meta))?;
    }
    Ok(())
}

/// Tells an attribute's name, for complaints.
pub(crate) fn name(path: &Path) -> String {
    let names: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
    names.join("::")
}
