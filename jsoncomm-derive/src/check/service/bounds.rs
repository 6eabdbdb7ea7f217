//! Whether the bounds on `Self` let the trait be used as `dyn`.

use crate::ast::service::Service;
use crate::ast::types::all_tokens;
use crate::ctxt::Ctxt;
use quote::ToTokens;
use syn::{TypeParamBound, WherePredicate};

/// Bounds on `Self` leave the trait fit for `dyn`, and do not depend on a condition.
pub(super) fn check(cx: &Ctxt, service: &Service) {
    let clause = service.required.iter().flat_map(bounds);
    for bound in service.item.supertraits.iter().chain(clause) {
        if is_sized(bound) || takes_self(bound) {
            let text = "a service is used as a `dyn` trait, which cannot have this bound: write it on the methods that \
                        need it, after `where Self: Sized`";
            cx.error(bound, text);
        }
    }
    for method in &service.methods {
        let sized = method.required.iter().any(is_self_sized);
        for predicate in &method.required {
            if !method.cfgs.is_empty() && !bounds(predicate).all(is_sized) {
                let text = "a conditional method requires no more than `Self: Sized`: write the bound in the trait's \
                            `where` clause";
                cx.error(predicate, text);
            } else if !sized && !bounds(predicate).all(is_fit_for_dyn) {
                let text = "a service is used as a `dyn` trait: add `Sized` to the bounds on `Self`, or write the bound in \
                            the trait's `where` clause";
                cx.error(predicate, text);
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

/// Returns true for `Self: Sized`, with or without more bounds.
fn is_self_sized(predicate: &WherePredicate) -> bool {
    let of_self = matches!(predicate, WherePredicate::Type(of_type)
        if of_type.bounded_ty.to_token_stream().to_string() == "Self");
    of_self && bounds(predicate).any(is_sized)
}

fn is_sized(bound: &TypeParamBound) -> bool {
    is_named(bound, &["Sized"])
}

/// Returns true if a method with this bound on `Self`, and without `Sized`, can be called on a `dyn` trait.
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

/// Returns true if a bound has `Self` as an argument, and not only a type that belongs to it.
fn takes_self(bound: &TypeParamBound) -> bool {
    let tokens = all_tokens(bound);
    let tokens: Vec<_> = tokens.iter().map(ToString::to_string).collect();
    let followed_by = |next: Option<&String>| matches!(next.map(String::as_str), Some(":" | "as"));
    let mut places = (0..).zip(&tokens).filter(|(_, token)| *token == "Self");
    places.any(|(place, _): (usize, _)| !followed_by(tokens.get(place + 1)))
}
