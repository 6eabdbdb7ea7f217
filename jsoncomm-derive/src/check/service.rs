//! Checks that a trait can be a service.

mod bounds;
mod signature;

use crate::ast::service::{Argument, Method, Service};
use crate::ast::types::{argument_of, descriptor};
use crate::attr;
use crate::check;
use crate::ctxt::Ctxt;
use proc_macro2::Span;
use std::collections::BTreeMap;
use syn::{Attribute, LitStr, Pat, TraitItem};

/// Reports everything in a service's trait that cannot be served or called.
pub(crate) fn service(cx: &Ctxt, service: &Service) {
    options(cx, service);
    let item = &service.item;
    attr::refuse_sensitive(cx, &item.attrs, "argument");
    if !item.generics.params.is_empty() {
        cx.error(&item.generics, "a service trait has no parameters");
    }
    cx.error_at(item.unsafety.as_ref(), "a service trait is safe");
    for part in &item.items {
        if !matches!(part, TraitItem::Fn(_)) {
            cx.error(part, "a service trait has methods only");
        }
    }
    if service.methods.is_empty() {
        cx.error(&item.ident, "a service needs at least one method");
    }
    for method in &service.methods {
        self::method(cx, method);
        check::arguments(cx, &method.described(service));
    }
    names(cx, service);
    bounds::check(cx, service);
}

fn options(cx: &Ctxt, service: &Service) {
    let attrs = &service.attrs;
    match &attrs.name {
        Some(name) => check::service_name(cx, name),
        None if attrs.unreadable => {}
        None => {
            let text = "give the service a name: `#[service(name = \"example.files\")]`";
            cx.push(syn::Error::new(Span::call_site(), text));
        }
    }
    versions(cx, service);
    let (library, ident) = (attrs.library.as_ref(), &service.item.ident);
    check::library(cx, library, ident, "#[service(...)]");
    check::schema(cx, attrs.schema.as_ref());
}

/// Checks the service's version, and that no method is of a later one.
fn versions(cx: &Ctxt, service: &Service) {
    let text = "a version is made of up to three numbers, such as `1.2.0`";
    let read = |version: &LitStr| {
        let numbers = numbers(&version.value());
        if numbers.is_none() {
            cx.error(version, text);
        }
        numbers
    };
    let version = service.attrs.version.as_ref();
    let current = version.and_then(read);
    for method in &service.methods {
        let Some(since) = &method.attrs.since else {
            continue;
        };
        if version.is_none() {
            let text =
                "give the service a version: `#[service(name = \"...\", version = \"1.2.0\")]`";
            cx.error(since, text);
        } else if read(since)
            .zip(current)
            .is_some_and(|(since, current)| since > current)
        {
            cx.error(since, "this version is later than that of the service");
        }
    }
}

/// Returns the numbers of a version. Those that are not written are 0.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = version.split('.');
    for (number, part) in numbers.iter_mut().zip(&mut parts) {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_number)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn method(cx: &Ctxt, method: &Method) {
    attr::refuse_sensitive(cx, &method.others, "argument");
    attr::refuse_fd(cx, &method.others);
    refuse_in_cfg_attr(cx, &method.others);
    signature::modifiers(cx, &method.signature);
    signature::receiver(cx, &method.signature);
    for argument in &method.arguments {
        self::argument(cx, argument);
    }
    signature::output(cx, method);
}

fn argument(cx: &Ctxt, argument: &Argument) {
    let mut others = argument.others.iter();
    let conditional = others.find(|one| one.path().is_ident("cfg"));
    let text = "an argument of a service cannot be conditional: put `#[cfg(...)]` on the method";
    cx.error_at(conditional, text);
    refuse_in_cfg_attr(cx, &argument.others);
    let pattern = &argument.pattern;
    if !matches!(pattern, Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none()) {
        let text = "an argument needs a name, which is its name on the wire";
        cx.error(pattern, text);
    }
    signature::argument(cx, argument);
    fds(cx, argument);
    let borrow = argument.attrs.borrow.as_ref().map(|(path, _)| path);
    let text = "an argument needs no `borrow`: it may always borrow from the message";
    cx.error_at(borrow, text);
    if argument.attrs.fd.is_some() || argument.is_borrowed() {
        let text = "`default = \"...\"`, `skip_serializing_if` and `with` need an argument by value without `#[fd]`: the \
                    client's stub passes a reference, which the function does not accept";
        cx.error_at(argument.function(), text);
    }
}

/// Checks that descriptors have `#[fd]` and are taken by value.
fn fds(cx: &Ctxt, argument: &Argument) {
    let (ty, ident) = (&argument.ty, &argument.ident);
    if argument.attrs.fd.is_some() {
        if argument.is_borrowed() {
            let text = "a received descriptor is owned: write the type by value";
            cx.error(ty, text);
        }
        return;
    }
    let inside = argument_of(ty, "Option").or(argument_of(ty, "Vec"));
    if let Some(name) = descriptor(inside.unwrap_or(ty)) {
        let text = format!(
            "a descriptor travels beside the JSON: write `#[fd] {ident}: ...`; if `{name}` is a type of your own, write \
             `self::{name}`"
        );
        cx.error(ty, text);
    }
}

/// Refuses attributes inside `cfg_attr` that the macro has to read: it does not know whether the condition is true.
fn refuse_in_cfg_attr(cx: &Ctxt, attributes: &[Attribute]) {
    const READ: [&str; 6] = ["cfg", "oneway", "fd", "sensitive", "serde", "since"];
    let conditional = attributes.iter().filter_map(attr::conditional);
    let text = "write this outside of `cfg_attr`, where the macro can see it";
    for hidden in conditional.flat_map(|(_, hidden)| hidden) {
        if READ.iter().any(|name| hidden.path().is_ident(name)) {
            cx.error(hidden, text);
        }
    }
}

/// Checks that each name is a word and leads to one method. Which of several conditional methods exists is not known here.
fn names(cx: &Ctxt, service: &Service) {
    let mut known = BTreeMap::new();
    for method in &service.methods {
        let ident = &method.signature.ident;
        let given = method.attrs.rename.iter().chain(&method.attrs.aliases);
        for name in given.filter(|name| !check::is_word(&name.value())) {
            let text = "a method's name is made of letters, digits, `_` and `-`";
            cx.error(name, text);
        }
        if !method.cfgs.is_empty() {
            continue;
        }
        for name in method.all_names() {
            if let Some(other) = known.insert(name.clone(), ident) {
                cx.error(ident, format!("`{other}` has the name `{name}` already"));
            }
        }
    }
}
