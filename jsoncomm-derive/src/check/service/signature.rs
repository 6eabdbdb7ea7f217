//! Whether a method's signature can be called from another process.

use crate::ast::service::{Argument, Method};
use crate::ast::types::{all_idents, argument_of, str_reference};
use crate::check::{generated_names, types};
use crate::ctxt::Ctxt;
use quote::ToTokens;
use syn::visit_mut::VisitMut;
use syn::{
    FnArg, Lifetime, ReceiverKind, ReturnType, Signature, Type, TypeFnPtr, TypeParamBound,
    TypeReference,
};

/// A method is a plain function without parameters of types or lifetimes.
pub(super) fn modifiers(cx: &Ctxt, signature: &Signature) {
    for (tokens, what) in [
        (
            signature.asyncness.to_token_stream(),
            "async: defer the reply instead",
        ),
        (signature.safety.to_token_stream(), "unsafe"),
        (signature.constness.to_token_stream(), "const"),
        (signature.abi.to_token_stream(), "foreign"),
    ] {
        if !tokens.is_empty() {
            cx.error(tokens, format!("a method of a service is not {what}"));
        }
    }
    if !signature.generics.params.is_empty() {
        let text = "a method of a service has no parameters of types or lifetimes";
        cx.error(&signature.generics, text);
    }
}

/// A method takes `self` by reference.
pub(super) fn receiver(cx: &Ctxt, signature: &Signature) {
    let text = "a method of a service begins with `&mut self` or `&self`";
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver))
            if matches!(receiver.kind, ReceiverKind::Reference(_, None, _)) => {}
        Some(other) => cx.error(other, text),
        None => cx.error(&signature.ident, text),
    }
}

/// An argument is of a type that can be read from a message, or a reference to one.
pub(super) fn argument(cx: &Ctxt, argument: &Argument) {
    refuse_self(cx, &argument.ty);
    match &argument.ty {
        Type::Reference(reference) => {
            lifetime(cx, reference);
            let text = "an argument is taken by value or by `&`; only `&mut Call` comes first";
            cx.error_at(reference.mutability.as_ref(), text);
            let elem = match &*reference.elem {
                Type::Slice(slice) => &slice.elem,
                _ => &reference.elem,
            };
            borrows(cx, elem, ARGUMENT);
        }
        ty => match argument_of(ty, "Option").and_then(str_reference) {
            Some(reference) => lifetime(cx, reference),
            None => borrows(cx, ty, ARGUMENT),
        },
    }
}

/// A method returns something owned, or nothing if it is `#[oneway]`.
pub(super) fn output(cx: &Ctxt, method: &Method) {
    refuse_self(cx, &method.signature.output);
    generated_names(cx, &method.signature.output);
    if let Some(ty) = &method.output {
        types::spelled(cx, ty);
        types::sized(cx, ty);
        borrows(cx, ty, REPLY);
    }
    if let (Some(_), Some(ty)) = (&method.attrs.oneway, &method.output) {
        cx.error(ty, "a `#[oneway]` method returns nothing");
    } else if method.attrs.oneway.is_none() && returns_nothing(&method.signature.output) {
        let text =
            "this method returns nothing: write `#[oneway]` on it, or return `Result<(), E>`";
        cx.error(&method.signature.ident, text);
    }
}

/// Returns true if the output is written to be nothing. The type that a macro was given may happen to be `()`.
fn returns_nothing(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

const ARGUMENT: &str =
    "an argument borrows as a whole, as `&str`, `&[T]`, `&T` or `Option<&str>`, or not at all";
const REPLY: &str = "a method returns an owned value: the caller is another process";

/// Refuses references and lifetimes inside a type, as `text` says: there is nothing that they could borrow from.
fn borrows(cx: &Ctxt, ty: &Type, text: &str) {
    struct Refuse<'a>(&'a Ctxt, &'a str);

    impl VisitMut for Refuse<'_> {
        fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
            self.0.error(reference, self.1);
        }

        fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
            // A reply may lend what its type can also own, as `Cow<'_, str>` does.
            if self.1 == ARGUMENT && lifetime.ident != "static" {
                self.0.error(lifetime, self.1);
            }
        }

        // A function's lifetimes are its own.
        fn visit_type_fn_ptr_mut(&mut self, _: &mut TypeFnPtr) {}

        fn visit_type_param_bound_mut(&mut self, _: &mut TypeParamBound) {}
    }

    Refuse(cx, text).visit_type_mut(&mut ty.clone());
}

/// Refuses `Self`, which is the type that implements the trait.
fn refuse_self(cx: &Ctxt, tokens: impl ToTokens) {
    let text = "a client does not know what `Self` is: write the type";
    let all = all_idents(tokens).filter(|ident| ident == "Self");
    all.for_each(|ident| cx.error(ident, text));
}

/// Refuses the lifetime of a reference, which lives no longer than the call.
fn lifetime(cx: &Ctxt, reference: &TypeReference) {
    let lifetime = reference.lifetime.as_ref();
    let text = "an argument is borrowed while the call is handled: remove the lifetime";
    cx.error_at(lifetime.filter(|lifetime| lifetime.ident != "_"), text);
}
