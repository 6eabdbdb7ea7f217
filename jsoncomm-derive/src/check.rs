//! Judging: what cannot be a message, each complaint on its own token and with what to write instead.

pub(crate) mod service;
mod types;

use crate::ast::service::is_word;
use crate::ast::{self, Body, Field, Message, Names, Shape, Style, Variant};
use crate::attr;
use crate::ctxt::Ctxt;
use crate::library;
use proc_macro2::{Ident, TokenTree};
use quote::ToTokens;
use std::collections::BTreeMap;
use syn::Path;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

/// Complains about everything that does not fit together.
pub(crate) fn message(cx: &Ctxt, message: &Message) {
    let answers = [&message.attrs.reply, &message.attrs.error];
    let fields = message.fields().map(|(field, _)| &field.ty);
    for ty in fields.chain(answers.into_iter().flatten()) {
        types::spelled(cx, ty);
        types::sized(cx, ty);
    }
    schema(cx, message.attrs.schema.as_ref());
    if let Some(path) = &message.attrs.delegate {
        return delegate(cx, message, path);
    }
    if let (Some(path), Some(_)) = (&message.attrs.schema, message.generics.type_params().next()) {
        let text = "a parameter may be anything: leave `schema` away, or leave the type to serde with `serde`";
        cx.complain(path, text);
    }
    refused(cx, message);
    tags(cx, message);
    placement(cx, message);
    request(cx, message);
    for (field, _) in message.fields() {
        descriptor(cx, field);
    }
    match &message.shape {
        Shape::Struct(body) => members(cx, body, message.attrs.default.is_some()),
        Shape::Enum(variants) => {
            let named = variants.iter().filter(|v| v.attrs.other.is_none());
            distinct(cx, named.map(|variant| (&variant.ident, &variant.names)));
            for variant in variants {
                members(cx, &variant.body, false);
            }
            other(cx, variants, message.attrs.reply.is_some());
        }
    }
}

/// The library is found where the generated code looks for it, as far as Cargo.toml tells: one complaint, in place of one
/// for each of its names.
pub(crate) fn library(cx: &Ctxt, given: Option<&Path>, of: &Ident, attribute: &str) {
    if let (None, Some(name)) = (given, library::other_name()) {
        let text = format!(
            "jsoncomm is called `{name}` in this program's Cargo.toml: write `crate = \"{name}\"` in `{attribute}`"
        );
        cx.complain(of, text);
    }
}

/// The names of types, lifetimes and values in generated code, which would mean these where they stand in it.
const GENERATED: [&str; 22] = [
    "__D",
    "__S",
    "__E",
    "__C",
    "__M",
    "__de",
    "__a",
    "__lent",
    "__text",
    "__With",
    "__default",
    "__value",
    "__fds",
    "__from",
    "__out",
    "__state",
    "__index",
    "__content",
    "__unknown",
    "__absence",
    "__params",
    "__incoming",
];

/// Names of the user's that mean something else in generated code.
pub(crate) fn taken(cx: &Ctxt, tokens: impl ToTokens) {
    for token in tokens.into_token_stream() {
        match token {
            TokenTree::Ident(ident) if is_generated(&ident.unraw().to_string()) => {
                cx.complain(
                    &ident,
                    format!("generated code has a `{ident}` of its own: use another name"),
                );
            }
            TokenTree::Group(group) => taken(cx, group.stream()),
            _ => {}
        }
    }
}

fn is_generated(name: &str) -> bool {
    let counted = |prefix| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    GENERATED.contains(&name) || counted("__Members") || counted("__f")
}

/// What the user has named in a type that is derived for.
pub(crate) fn names(cx: &Ctxt, message: &Message) {
    taken(cx, &message.ident);
    taken(cx, &message.generics.params);
    for lifetime in message.generics.lifetimes() {
        if lifetime.lifetime.ident == "_" {
            cx.complain(&lifetime.lifetime, "a parameter needs a name");
        }
    }
    for (field, _) in message.fields() {
        let attrs = &field.attrs;
        taken(cx, &field.ty);
        if let Some(attr::Default::Path(path)) = &attrs.default {
            taken(cx, path);
        }
        for path in [&attrs.skip_if, &attrs.with.ser, &attrs.with.de]
            .into_iter()
            .flatten()
        {
            taken(cx, path);
        }
    }
}

/// `schema` needs what reads them.
fn schema(cx: &Ctxt, path: Option<&Path>) {
    if let (Some(path), false) = (path, cfg!(feature = "schema")) {
        let text = "`schema` needs the library's feature of that name: write `features = [\"schema\"]` in Cargo.toml";
        cx.complain(path, text);
    }
}

/// A field that is a descriptor, or says that it is.
fn descriptor(cx: &Ctxt, field: &Field) {
    let attrs = &field.attrs;
    match (&attrs.fd, &attrs.with_path) {
        (Some(_), Some(with)) => {
            let text = "`#[fd]` says how the field travels: leave one of the two away";
            cx.complain(with, text);
        }
        (None, None) if ast::is_descriptor(&field.ty) && !(attrs.skip_ser && attrs.skip_de) => {
            let text = "a descriptor travels beside the text: write `#[fd]` before the field";
            cx.push(syn::Error::new(field.ty.span(), text));
        }
        _ => {}
    }
}

/// The variant that stands for all that the enum does not have.
fn other(cx: &Ctxt, variants: &[Variant], request: bool) {
    let others = variants
        .iter()
        .filter_map(|v| Some((v, v.attrs.other.as_ref()?)));
    for (place, (variant, path)) in others.enumerate() {
        let attrs = &variant.attrs;
        let plain = match &variant.body.fields[..] {
            [field] if variant.body.style == Style::Newtype => field.attrs.fd.is_none(),
            _ => false,
        };
        if request {
            cx.complain(
                path,
                "an unknown method is refused before it is read: leave `other` away",
            );
        } else if place > 0 {
            cx.complain(path, "one variant stands for all that is not known");
        } else if !plain {
            cx.complain(
                path,
                "`other` belongs on a variant that holds a `jsoncomm::message::Unknown`",
            );
        } else if attrs.skip.is_some() || attrs.alias.is_some() || attrs.rename.de.is_some() {
            cx.complain(
                path,
                "what is not known has any name: leave serde's attributes away",
            );
        }
    }
}

/// With `#[message(serde)]` serde does everything, and knows nothing of descriptors.
fn delegate(cx: &Ctxt, message: &Message, path: &Path) {
    for (field, _) in message.fields() {
        if let Some(fd) = &field.attrs.fd {
            let text =
                "`#[message(serde)]` leaves the type to serde, which cannot carry descriptors";
            cx.complain(fd, text);
        }
    }
    for other in message
        .variants()
        .iter()
        .filter_map(|v| v.attrs.other.as_ref())
    {
        cx.complain(
            other,
            "`#[message(serde)]` leaves the type to serde: write `#[serde(other)]`",
        );
    }
    let attrs = &message.attrs;
    if attrs.reply.is_some() || attrs.service.is_some() || attrs.error.is_some() {
        cx.complain(path, "a request enum has its own shape: leave `serde` away");
    }
}

/// What serde has and this derive has not.
fn refused(cx: &Ctxt, message: &Message) {
    let fds = message.fields().any(|(field, _)| field.attrs.fd.is_some());
    let fields = message.fields().flat_map(|(field, _)| &field.attrs.refused);
    let variants = message.variants().iter().flat_map(|v| &v.attrs.refused);
    for path in message.attrs.refused.iter().chain(variants).chain(fields) {
        cx.complain(path, refusal(path, fds));
    }
}

fn refusal(path: &Path, fds: bool) -> String {
    let name = path
        .get_ident()
        .map(ToString::to_string)
        .unwrap_or_default();
    let why = match &*name {
        "untagged" => "`untagged` guesses from a buffer, which descriptors do not survive",
        "flatten" => "`flatten` collects members in a buffer, which descriptors do not survive",
        _ => {
            return match fds {
                true => format!(
                    "`{name}` cannot carry descriptors: implement `Pack` and `Unpack` by hand"
                ),
                false => format!("`{name}` is left to serde: {SERDE}"),
            };
        }
    };
    let write = match (&*name, fds) {
        (_, false) => SERDE,
        ("untagged", true) => "leave it away, or write `tag = \"...\", content = \"...\"`",
        _ => "give the member a name of its own",
    };
    format!("{why}: {write}")
}

const SERDE: &str =
    "derive serde's `Serialize` and `Deserialize` too and write `#[message(serde)]`";

/// `tag` and `content`, which only go together and on an enum.
fn tags(cx: &Ctxt, message: &Message) {
    let is_enum = matches!(message.shape, Shape::Enum(_));
    match (&message.attrs.tag, &message.attrs.content) {
        (Some(tag), Some(_)) if !is_enum => cx.complain(tag, "`tag` belongs on an enum"),
        (Some(tag), Some(content)) if tag.value() == content.value() => {
            cx.complain(content, "`tag` and `content` need different names");
        }
        (Some(tag), None) => {
            let text = "`tag` without `content` reads from a buffer, which descriptors do not \
                        survive: add `content = \"...\"`";
            let fds = message.fields().any(|(field, _)| field.attrs.fd.is_some());
            match fds {
                true => cx.complain(tag, text),
                false => cx.complain(tag, format!("{text}, or {SERDE}")),
            }
        }
        (None, Some(content)) => cx.complain(content, "`content` needs `tag = \"...\"` before it"),
        _ => {}
    }
}

/// Attributes of the container that mean nothing where they stand.
fn placement(cx: &Ctxt, message: &Message) {
    let attrs = &message.attrs;
    let style = match &message.shape {
        Shape::Struct(body) => Some(body.style),
        Shape::Enum(_) => None,
    };
    if let Some((path, _)) = &attrs.default {
        if matches!(style, None | Some(Style::Unit)) {
            cx.complain(path, "`default` belongs on a struct with fields");
        }
    }
    if let (Some(path), None) = (&attrs.transparent, style) {
        cx.complain(path, "`transparent` belongs on a struct");
    }
}

/// The promises of an enum of requests.
fn request(cx: &Ctxt, message: &Message) {
    let attrs = &message.attrs;
    let Some(reply) = &attrs.reply else {
        if let Some(service) = &attrs.service {
            cx.complain(
                service,
                "say what a request is answered with: `reply = Type`",
            );
        }
        if let Some(error) = &attrs.error {
            cx.complain(error, "`error` needs `reply = Type` beside it");
        }
        return;
    };
    let Shape::Enum(variants) = &message.shape else {
        cx.complain(
            reply,
            "`reply` belongs on an enum, whose variants are the methods",
        );
        return;
    };
    if !message.generics.params.is_empty() {
        let text = "a request enum has no parameters: it has to be readable from any message";
        cx.complain(&message.generics.params, text);
    }
    if variants.is_empty() {
        cx.complain(&message.ident, "a request enum needs at least one variant");
    }
    if let Some(service) = &attrs.service {
        let name = service.value();
        if !is_service_name(&name) {
            cx.complain(service, "a service is named like `example.files`: letters, digits, `_`, `-`, and dots between");
        } else if name == "rpc" || name.starts_with("rpc.") {
            cx.complain(service, "JSON-RPC reserves the names that begin with `rpc`");
        }
    }
    for variant in variants {
        method(cx, variant, attrs.service.is_some());
    }
}

fn is_service_name(name: &str) -> bool {
    name.split('.').all(is_word)
}

/// One variant of a request enum.
fn method(cx: &Ctxt, variant: &Variant, service: bool) {
    if let Some(skip) = &variant.attrs.skip {
        cx.complain(skip, "a method cannot be skipped: leave the variant away");
    }
    if variant.names.ser != variant.names.de {
        cx.complain(&variant.ident, "a method has one name for both directions");
    }
    if !service {
        return;
    }
    if let Some(alias) = &variant.attrs.alias {
        cx.complain(alias, "a method has one name: leave `alias` away");
    }
    if matches!(variant.body.style, Style::Newtype | Style::Tuple) {
        let ident = &variant.ident;
        let text = format!("a method's arguments have names: write `{ident} {{ name: Type }}`");
        cx.complain(ident, text);
    }
}

/// The fields of one struct or variant.
fn members(cx: &Ctxt, body: &Body, defaults: bool) {
    if body.style == Style::Named {
        distinct(cx, body.read().map(|field| (&field.member, &field.names)));
    }
    if body.style == Style::Tuple && !defaults {
        let mut before = false;
        for field in body.read() {
            let has = field.attrs.default.is_some();
            if before && !has {
                let text = "an element after one with `#[serde(default)]` needs it too";
                cx.push(syn::Error::new(field.ty.span(), text));
            }
            before |= has;
        }
    }
}

/// Refuses two things that are read under the same name.
fn distinct<'a, T: quote::ToTokens + 'a>(cx: &Ctxt, all: impl Iterator<Item = (&'a T, &'a Names)>) {
    let mut seen = BTreeMap::new();
    for (tokens, names) in all {
        for name in &names.known {
            if let Some(other) = seen.insert(name, tokens) {
                let other = other.to_token_stream();
                cx.complain(tokens, format!("`{other}` is called `{name}` already"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_words_with_dots_between() {
        for good in ["example.files", "a", "a-b.c_d.1"] {
            assert!(is_service_name(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "ä"] {
            assert!(!is_service_name(bad), "{bad}");
        }
    }

    #[test]
    fn all_complaints_come_at_once() {
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
