//! Whether a service trait can be one.

use crate::ast::service::{Argument, Passing, Service, is_word};
use crate::check::{self, types};
use crate::ctxt::Ctxt;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::BTreeMap;
use syn::{ReturnType, TypeParamBound, WherePredicate};

/// Complains about methods that cannot be called as they are.
pub(crate) fn service(cx: &Ctxt, service: &Service) {
    if service.methods.is_empty() {
        cx.complain(&service.item.ident, "a service needs at least one method");
    }
    for method in &service.methods {
        match (&method.oneway, &method.output) {
            (Some(_), ReturnType::Default) => {}
            (Some(_), ReturnType::Type(_, ty)) => {
                cx.complain(ty, "a `#[oneway]` method returns nothing");
            }
            (None, _) if method.returns_nothing => cx.complain(
                &method.ident,
                "this method answers nothing: write `#[oneway]` on it, or return `Result<(), E>`",
            ),
            (None, _) => {}
        }
        check::taken(cx, &method.output);
        if let ReturnType::Type(_, ty) = &method.output {
            types::spelled(cx, ty);
            types::sized(cx, ty);
        }
        for argument in &method.arguments {
            self::argument(cx, argument);
        }
    }
    check::library(
        cx,
        service.library.as_ref(),
        &service.item.ident,
        "#[service(...)]",
    );
    check::schema(cx, service.schema.as_ref());
    names(cx, service);
    asked(cx, service);
}

/// A function knows one type, and what the stub lends is of another.
fn argument(cx: &Ctxt, argument: &Argument) {
    check::taken(cx, &argument.ty);
    types::spelled(cx, &argument.ty);
    if let Some(function) = argument.function() {
        check::taken(cx, function);
    }
    if let Some((borrow, _)) = &argument.says.borrow {
        cx.complain(
            borrow,
            "an argument is borrowed while the call is handled: leave `borrow` away",
        );
    }
    let lent = argument.says.fd.is_some() || argument.passing != Passing::Value;
    if let (Some(function), true) = (argument.function(), lent) {
        let text = "a function knows one type, and what the stub lends is of another: take the argument \
                    by value, without `#[fd]`";
        cx.complain(function, text);
    }
}

/// Each name is a word and means one method; which of several conditional methods there is, is not known
/// here.
fn names(cx: &Ctxt, service: &Service) {
    let mut known = BTreeMap::new();
    for method in &service.methods {
        let given = method.names.rename.iter().chain(&method.names.aliases);
        for name in given.filter(|name| !is_word(&name.value())) {
            let text = "a method's name is made of letters, digits, `_` and `-`";
            cx.complain(name, text);
        }
        if !method.cfgs.is_empty() {
            continue;
        }
        for name in method.all_names() {
            if let Some(other) = known.insert(name.clone(), &method.ident) {
                let text = format!("the name `{name}` is that of `{other}` already");
                cx.complain(&method.ident, text);
            }
        }
    }
}

/// What is asked of `Self` leaves the trait fit for `dyn`, and does not come and go.
fn asked(cx: &Ctxt, service: &Service) {
    let clause = service.asked.iter().flat_map(bounds);
    for bound in service.item.supertraits.iter().chain(clause) {
        if is_sized(bound) || takes_self(bound.to_token_stream()) {
            cx.complain(
                bound,
                "a service is used as a `dyn` trait, which cannot be asked for this: ask in the methods \
                 that need it, with `where Self: Sized` first",
            );
        }
    }
    for method in &service.methods {
        let sized = method.asked.iter().any(is_self_sized);
        for predicate in &method.asked {
            if !method.cfgs.is_empty() && !bounds(predicate).all(is_sized) {
                let text = "a conditional method asks no more than `Self: Sized`: ask in the trait's \
                            `where` clause";
                cx.complain(predicate, text);
            } else if !sized && !bounds(predicate).all(is_fit_for_dyn) {
                let text = "a service is used as a `dyn` trait: add `Sized` to what the method asks of \
                            `Self`, or ask in the trait's `where` clause";
                cx.complain(predicate, text);
            }
        }
    }
}

fn bounds(predicate: &WherePredicate) -> impl Iterator<Item = &TypeParamBound> {
    let bounds = match predicate {
        WherePredicate::Type(of_type) => Some(&of_type.bounds),
        _ => None,
    };
    bounds.into_iter().flatten()
}

/// Says whether this is `Self: Sized`, with or without more.
fn is_self_sized(predicate: &WherePredicate) -> bool {
    let of_self = matches!(predicate, WherePredicate::Type(of_type)
        if of_type.bounded_ty.to_token_stream().to_string() == "Self");
    of_self && bounds(predicate).any(is_sized)
}

fn is_sized(bound: &TypeParamBound) -> bool {
    is_named(bound, &["Sized"])
}

/// Says whether a method that asks this of `Self`, and not `Sized`, can be called on a `dyn` trait.
fn is_fit_for_dyn(bound: &TypeParamBound) -> bool {
    const AUTO: [&str; 5] = ["Send", "Sync", "Unpin", "UnwindSafe", "RefUnwindSafe"];
    matches!(bound, TypeParamBound::Lifetime(_)) || is_named(bound, &AUTO)
}

fn is_named(bound: &TypeParamBound, names: &[&str]) -> bool {
    let TypeParamBound::Trait(bound) = bound else {
        return false;
    };
    let last = bound.path.segments.last();
    bound.maybe.is_none() && last.is_some_and(|last| names.iter().any(|name| last.ident == name))
}

/// Says whether `Self` itself is an argument of a bound, and not only a type that belongs to it.
fn takes_self(tokens: TokenStream) -> bool {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let found = match token {
            TokenTree::Ident(ident) if ident == "Self" => {
                let next = tokens.peek().map(ToString::to_string);
                !matches!(next.as_deref(), Some(":" | "as"))
            }
            TokenTree::Group(group) => takes_self(group.stream()),
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}
