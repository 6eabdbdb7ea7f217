//! Whether a service trait can be one.

use crate::ast::service::{Service, returns_nothing};
use crate::ctxt::Ctxt;
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
}
