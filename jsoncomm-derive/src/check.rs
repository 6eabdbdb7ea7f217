//! Checks that a type can be a message. Each error is reported at its own token, and says what to write instead.

mod kinds;
pub(crate) mod service;
mod types;

use crate::ast::types::{all_idents, is_plain_descriptor};
use crate::ast::{Field, Message, Names, Shape, Style, Variant};
use crate::ctxt::Ctxt;
use crate::library;
use proc_macro2::Ident;
use quote::ToTokens;
use std::collections::BTreeMap;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{LitStr, Path};

/// Reports everything in a type that does not fit together.
pub(crate) fn message(cx: &Ctxt, message: &Message) {
    let attrs = &message.attrs;
    let given = attrs.library.as_ref();
    library(cx, given, &message.ident, "#[message(...)]");
    parameters(cx, message);
    schema(cx, attrs.schema.as_ref());
    for field in message.fields() {
        self::field(cx, field);
    }
    for ty in [&attrs.reply, &attrs.error].into_iter().flatten() {
        types::spelled(cx, ty);
        types::sized(cx, ty);
    }
    if let Some(path) = &attrs.delegate {
        return delegate(cx, message, path);
    }
    if let (Some(path), Some(_)) = (&attrs.schema, message.generics.type_params().next()) {
        let text =
            "a parameter may be any type: remove `schema`, or leave the type to serde with `serde`";
        cx.error(path, text);
    }
    refused(cx, message);
    tags(cx, message);
    placement(cx, message);
    request(cx, message);
    for field in message.fields() {
        descriptor(cx, field);
        if let (Some((path, _)), true) = (&field.attrs.borrow, field.borrowed.is_empty()) {
            cx.error(path, "this field has no lifetime to borrow for");
        }
    }
    let variants = message.variants();
    let named = variants.iter().filter(|v| v.attrs.other.is_none());
    distinct(cx, named.map(|variant| (&variant.ident, &variant.names)));
    members(cx, message);
    other(cx, variants, attrs.reply.is_some());
}

/// Reports everything in a method's arguments that does not fit together.
fn arguments(cx: &Ctxt, message: &Message) {
    refused(cx, message);
    for field in message.fields() {
        self::field(cx, field);
        fd_and_with(cx, field);
    }
    members(cx, message);
}

/// Checks that generated code can reach the library. One error instead of one for each name in it.
fn library(cx: &Ctxt, given: Option<&Path>, of: &Ident, attribute: &str) {
    if let (None, Some(name)) = (given, library::other_name()) {
        let text = format!(
            "jsoncomm is called `{name}` in this program's Cargo.toml: write `crate = \"{name}\"` in `{attribute}`"
        );
        cx.error(of, text);
    }
}

/// The names of types, lifetimes and values in generated code.
const GENERATED: &str = "__p __s __D __S __E __C __M __de __a __lent __With __default __fds __from __out __state __index \
                         __content __unknown __absence __params __incoming";

/// Refuses the user's names that mean something else in generated code.
fn generated_names(cx: &Ctxt, tokens: impl ToTokens) {
    for ident in all_idents(tokens) {
        if is_generated(&ident.unraw().to_string()) {
            let text = format!("generated code has a `{ident}` of its own: use another name");
            cx.error(&ident, text);
        }
    }
}

fn is_generated(name: &str) -> bool {
    let counted = |prefix| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    GENERATED.split(' ').any(|known| known == name) || counted("__Members") || counted("__f")
}

/// Checks the names of a type and its parameters.
fn parameters(cx: &Ctxt, message: &Message) {
    generated_names(cx, &message.ident);
    generated_names(cx, &message.generics.params);
    for lifetime in message.generics.lifetimes() {
        if lifetime.lifetime.ident == "_" {
            cx.error(&lifetime.lifetime, "a parameter needs a name");
        }
    }
}

/// Checks a field's type and functions, which generated code repeats. For arguments as well.
fn field(cx: &Ctxt, field: &Field) {
    let attrs = &field.attrs;
    types::spelled(cx, &field.ty);
    types::sized(cx, &field.ty);
    generated_names(cx, &field.ty);
    kinds::kinds(cx, field);
    let paths = [&attrs.skip_if, &attrs.with.ser, &attrs.with.de];
    for path in paths.into_iter().flatten().chain(attrs.default_function()) {
        generated_names(cx, path);
    }
}

/// Checks that the library has the feature that `schema` needs.
fn schema(cx: &Ctxt, path: Option<&Path>) {
    if let (Some(path), false) = (path, cfg!(feature = "schema")) {
        let text = "`schema` needs the library's feature of that name: write `features = [\"schema\"]` in Cargo.toml";
        cx.error(path, text);
    }
}

/// Checks that a field that is a descriptor has `#[fd]`. Arguments are checked by `service::fds`.
fn descriptor(cx: &Ctxt, field: &Field) {
    let attrs = &field.attrs;
    fd_and_with(cx, field);
    let travels = !(attrs.skip_ser && attrs.skip_de) && attrs.with_path.is_none();
    if travels && attrs.fd.is_none() && is_plain_descriptor(&field.ty) {
        let text = "a descriptor travels beside the JSON: write `#[fd]` before the field";
        cx.push(syn::Error::new(field.ty.span(), text));
    }
}

/// Checks that a field or argument has only one of `#[fd]` and `with`.
fn fd_and_with(cx: &Ctxt, field: &Field) {
    if let (Some(_), Some(with)) = (&field.attrs.fd, &field.attrs.with_path) {
        let text = "`#[fd]` says how the field travels: remove one of the two";
        cx.error(with, text);
    }
}

/// Checks the variant that is read for names that the enum does not have.
fn other(cx: &Ctxt, variants: &[Variant], request: bool) {
    let others = variants.iter();
    let others = others.filter_map(|v| Some((v, v.attrs.other.as_ref()?)));
    for (place, (variant, path)) in others.enumerate() {
        let attrs = &variant.attrs;
        let plain = match &variant.body.fields[..] {
            [field] if variant.body.style == Style::Newtype => field.attrs.fd.is_none(),
            _ => false,
        };
        let text = if request {
            "an unknown method is refused before its arguments are read: remove `other`"
        } else if place > 0 {
            "one variant stands for all unknown ones"
        } else if !plain {
            "`other` belongs on a variant that holds a `jsoncomm::message::UnknownVariant`"
        } else if attrs.skip.is_some() || attrs.alias.is_some() || attrs.rename.de.is_some() {
            "an unknown variant has any name: remove serde's attributes"
        } else {
            continue;
        };
        cx.error(path, text);
    }
}

/// Checks a type with `#[message(serde)]`: serde does everything, and cannot carry descriptors.
fn delegate(cx: &Ctxt, message: &Message, path: &Path) {
    for field in message.fields() {
        let text = "`#[message(serde)]` leaves the type to serde, which cannot carry descriptors";
        cx.error_at(field.attrs.fd.as_ref(), text);
    }
    for variant in message.variants() {
        let text = "`#[message(serde)]` leaves the type to serde: write `#[serde(other)]`";
        cx.error_at(variant.attrs.other.as_ref(), text);
    }
    let attrs = &message.attrs;
    if attrs.reply.is_some() || attrs.service.is_some() || attrs.error.is_some() {
        cx.error(path, "a request enum has its own shape: remove `serde`");
    }
}

/// Refuses the attributes that only serde supports.
fn refused(cx: &Ctxt, message: &Message) {
    let fields = message.fields().flat_map(|field| &field.attrs.refused);
    let variants = message.variants().iter().flat_map(|v| &v.attrs.refused);
    for path in message.attrs.refused.iter().chain(variants).chain(fields) {
        cx.error(path, refusal(path, message.has_fds()));
    }
}

const SERDE: &str =
    "derive serde's `Serialize` and `Deserialize` too and write `#[message(serde)]`";

fn refusal(path: &Path, fds: bool) -> String {
    let name = path.get_ident().map(ToString::to_string);
    let name = name.unwrap_or_default();
    let (why, instead) = match &*name {
        "untagged" => (
            "`untagged` guesses from a buffer, which descriptors do not survive",
            "remove it, or write `tag = \"...\", content = \"...\"`",
        ),
        "flatten" => (
            "`flatten` collects members in a buffer, which descriptors do not survive",
            "give the member a name of its own",
        ),
        _ if fds => {
            return format!(
                "`{name}` cannot carry descriptors: implement `Pack` and `Unpack` by hand"
            );
        }
        _ => return format!("`{name}` is left to serde: {SERDE}"),
    };
    format!("{why}: {}", if fds { instead } else { SERDE })
}

/// Checks that `tag` and `content` are together, and on an enum.
fn tags(cx: &Ctxt, message: &Message) {
    match (&message.attrs.tag, &message.attrs.content, &message.shape) {
        (Some(tag), Some(_), Shape::Struct(_)) => cx.error(tag, "`tag` belongs on an enum"),
        (Some(tag), Some(content), _) if tag.value() == content.value() => {
            cx.error(content, "`tag` and `content` need different names");
        }
        (Some(tag), None, _) => {
            let or = format!(", or {SERDE}");
            let or = if message.has_fds() { "" } else { &or };
            let text = "`tag` without `content` reads from a buffer, which descriptors do not survive: add \
                        `content = \"...\"`";
            cx.error(tag, format!("{text}{or}"));
        }
        (None, Some(content), _) => cx.error(content, "`content` needs `tag = \"...\"` before it"),
        _ => {}
    }
}

/// Refuses attributes of the type that have no meaning for its kind.
fn placement(cx: &Ctxt, message: &Message) {
    let attrs = &message.attrs;
    let (default, transparent) = (attrs.default.as_ref(), attrs.transparent.as_ref());
    let body = match &message.shape {
        Shape::Struct(body) => Some(body),
        Shape::Enum(_) => None,
    };
    if body.is_none_or(|body| body.style == Style::Unit) {
        let text = "`default` belongs on a struct with fields";
        cx.error_at(default.map(|(path, _)| path), text);
    }
    match body {
        None => cx.error_at(transparent, "`transparent` belongs on a struct"),
        Some(body) if body.written().count() != 1 => {
            let text = "`transparent` needs exactly one field that is not skipped";
            cx.error_at(transparent, text);
        }
        Some(_) => {}
    }
}

/// Checks an enum of requests, whose variants are methods.
fn request(cx: &Ctxt, message: &Message) {
    let attrs = &message.attrs;
    let Some(reply) = &attrs.reply else {
        let text = "write the type of the reply: `reply = Type`";
        cx.error_at(attrs.service.as_ref(), text);
        let text = "`error` needs `reply = Type` beside it";
        return cx.error_at(attrs.error.as_ref(), text);
    };
    let Shape::Enum(variants) = &message.shape else {
        let text = "`reply` belongs on an enum, whose variants are the methods";
        return cx.error(reply, text);
    };
    if !message.generics.params.is_empty() {
        let text = "a request enum has no parameters: it has to be readable from any message";
        cx.error(&message.generics.params, text);
    }
    if variants.is_empty() {
        cx.error(&message.ident, "a request enum needs at least one variant");
    }
    if let Some(service) = &attrs.service {
        service_name(cx, service);
    }
    for variant in variants {
        method(cx, variant, attrs.service.is_some());
    }
}

/// Checks that a service's name is words with dots between them. `rpc.` is reserved by JSON-RPC.
fn service_name(cx: &Ctxt, name: &LitStr) {
    if !is_service_name(&name.value()) {
        let text = "a service's name is made of letters, digits, `_`, `-` and single dots, as in `example.files`, and does \
                    not begin with `rpc.`";
        cx.error(name, text);
    }
}

fn is_service_name(name: &str) -> bool {
    name.split('.').all(is_word) && name.split('.').next() != Some("rpc")
}

/// Returns true if `word` can be a part of a name between two dots.
fn is_word(word: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !word.is_empty() && word.bytes().all(fits)
}

/// Checks one variant of a request enum.
fn method(cx: &Ctxt, variant: &Variant, service: bool) {
    let (attrs, ident) = (&variant.attrs, &variant.ident);
    let text = "a method cannot be skipped: remove the variant";
    cx.error_at(attrs.skip.as_ref(), text);
    if variant.names.ser != variant.names.de {
        cx.error(ident, "a method has one name for both directions");
    }
    if service {
        let text = "a method has one name: remove `alias`";
        cx.error_at(attrs.alias.as_ref(), text);
        if matches!(variant.body.style, Style::Newtype | Style::Tuple) {
            let text = format!("a method's arguments have names: write `{ident} {{ name: Type }}`");
            cx.error(ident, text);
        }
    }
}

/// Checks the fields of a struct, or of each variant, together.
fn members(cx: &Ctxt, message: &Message) {
    let has = |field: &&Field| field.attrs.default.is_some() || message.attrs.default.is_some();
    for (body, _) in message.bodies() {
        let (named, tuple) = (body.style == Style::Named, body.style == Style::Tuple);
        let named = body.read().filter(|_| named);
        distinct(cx, named.map(|field| (&field.member, &field.names)));
        let after = body.read().skip_while(|field| !has(field));
        for field in after.filter(|field| tuple && !has(field)) {
            let text = "an element after one with `#[serde(default)]` needs it too";
            cx.push(syn::Error::new(field.ty.span(), text));
        }
    }
}

/// Refuses two things that are read under the same name.
fn distinct<'a, T: ToTokens + 'a>(cx: &Ctxt, all: impl Iterator<Item = (&'a T, &'a Names)>) {
    let mut seen = BTreeMap::new();
    for (tokens, names) in all {
        for name in &names.known {
            if let Some(other) = seen.insert(name, tokens) {
                let other = other.to_token_stream();
                cx.error(tokens, format!("`{other}` has the name `{name}` already"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_is_words_separated_by_dots() {
        for good in ["example.files", "a", "a-b.c_d.1"] {
            assert!(is_service_name(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "ä", "rpc", "rpc.a"] {
            assert!(!is_service_name(bad), "{bad}");
        }
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let input = syn::parse_quote! {
            #[serde(untagged)]
            #[message(reply = u8)]
            enum Bad { A { #[serde(flatten)] a: u8, #[fd] #[serde(with = "x")] b: u8 } }
        };
        let cx = Ctxt::new();
        let ast = Message::from_syn(&cx, &input);
        message(&cx, &ast.unwrap());
        assert_eq!(cx.finish().unwrap_err().into_iter().count(), 3);
    }
}
