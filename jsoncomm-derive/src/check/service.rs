//! Whether a service trait can be one.

use crate::ast::service::{Service, is_word, returns_nothing};
use crate::ctxt::Ctxt;
use std::collections::BTreeMap;
use syn::ReturnType;

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
            (None, output) if returns_nothing(output) => cx.complain(
                &method.ident,
                "this method answers nothing: write `#[oneway]` on it, or return `Result<(), E>`",
            ),
            (None, _) => {}
        }
    }
    names(cx, service);
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
