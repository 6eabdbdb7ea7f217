//! Writing: the impls that `derive(Message)` stands for.
//!
//! The generated code fills in tables: which names, which types, which functions. Visitors and errors
//! are the library's. Everything stands in a `const _` so that helper types have names of their own.

mod debug;
mod describe;
mod generics;
mod pack;
mod request;
pub(crate) mod service;
mod unpack;

use crate::ast::Message;
use crate::check;
use crate::ctxt::Ctxt;
use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::quote;
use syn::DeriveInput;
use syn::spanned::Spanned;

/// Expands `derive(Message)`.
pub(crate) fn message(input: &DeriveInput) -> syn::Result<TokenStream> {
    let judge = |cx: &Ctxt, message: &Message| {
        let given = message.attrs.library.as_ref();
        check::library(cx, given, &message.ident, "#[message(...)]");
        check::names(cx, message);
    };
    expanded(input, judge, |message| {
        let (shape, debug) = (describe::shape(&message), debug::message(&message));
        generated(impl_message(&message, &shape, &debug))
    })
}

/// Writes how the arguments that a stub sends are written.
fn sent(input: &DeriveInput) -> syn::Result<TokenStream> {
    expanded(
        input,
        |_, _| {},
        |message| {
            let pack = pack::message(&message, &TokenStream::new());
            aside(&message, &pack)
        },
    )
}

/// Writes how the arguments that a handler gets are read.
fn received(input: &DeriveInput) -> syn::Result<TokenStream> {
    expanded(
        input,
        |_, _| {},
        |mut message| {
            message.arguments = true;
            aside(&message, &unpack::message(&message))
        },
    )
}

fn expanded(
    input: &DeriveInput,
    judge: impl FnOnce(&Ctxt, &Message),
    write: impl FnOnce(Message) -> TokenStream,
) -> syn::Result<TokenStream> {
    let cx = Ctxt::new();
    let message = Message::from_syn(&cx, input);
    if let Some(message) = &message {
        judge(&cx, message);
        check::message(&cx, message);
    }
    cx.finish()?;
    Ok(message.map(write).unwrap_or_default())
}

fn impl_message(message: &Message, shape: &TokenStream, debug: &TokenStream) -> TokenStream {
    let (pack, unpack) = match message.attrs.delegate {
        Some(_) => (pack::delegate(message, shape), unpack::delegate(message)),
        None => (pack::message(message, shape), unpack::message(message)),
    };
    let request = request::message(message);
    let plain = generics::without_fds(message);
    aside(message, &quote!(#pack #unpack #plain #request #debug))
}

/// Puts impls where their helper types are in nobody's way, and sees what says how fields travel.
fn aside(message: &Message, impls: &TokenStream) -> TokenStream {
    let (p, allowed) = (&message.private(), &message.allowed);
    quote! {
        #[doc(hidden)]
        #(#allowed)*
        const _: () = {
            use #p::select::*;
            #impls
        };
    }
}

/// The code of an enum's variant.
fn code(index: usize) -> i64 {
    i64::try_from(index + 1).unwrap_or(i64::MAX)
}

/// Where a complaint about `of` belongs. Names resolve as in the rest of the generated code, though
/// `of` may come out of another macro.
fn site(of: &impl Spanned) -> Span {
    of.span().resolved_at(Span::call_site())
}

/// Makes everything a part of the generated code, the user's types in it included: lints are about what the user wrote,
/// where it was written. What a macro's `$crate` means is known by its span alone, which stays.
fn generated(tokens: TokenStream) -> TokenStream {
    with_spans(tokens, &|token| match token {
        TokenTree::Ident(ident) if ident == "$crate" => ident.span(),
        token => token.span().resolved_at(Span::call_site()),
    })
}

/// Puts all tokens at one place, so that a complaint about any of them is the same one. What their names mean stays.
fn located_at(span: Span, tokens: TokenStream) -> TokenStream {
    with_spans(tokens, &|token| token.span().located_at(span))
}

fn with_spans(tokens: TokenStream, span: &dyn Fn(&TokenTree) -> Span) -> TokenStream {
    let each = |mut token: TokenTree| {
        let span_of = span(&token);
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), with_spans(group.stream(), span)).into();
        }
        token.set_span(span_of);
        token
    };
    tokens.into_iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(input: DeriveInput) -> String {
        let tokens = message(&input).unwrap();
        syn::parse2::<syn::File>(tokens.clone()).unwrap();
        tokens.to_string()
    }

    #[test]
    fn a_struct_of_quoted_parameters_expands() {
        let text = expanded(syn::parse_quote! {
            #[serde(deny_unknown_fields)]
            struct Open<P0, P1> { path: P0, #[fd] sink: P1 }
        });
        assert!(text.contains("P0 : :: jsoncomm :: private :: serde :: Serialize"));
        assert!(text.contains("P1 : :: jsoncomm :: private :: Pack"));
        assert!(text.contains("STRICT : bool = true"));
    }

    #[test]
    fn what_is_named_oddly_is_refused_or_becomes_rust() {
        for text in [
            "struct S { _: u8 }",
            "struct S { _: union { a: u8 } }",
            "enum S { A { a: u8, _: u8 } }",
            "struct S<'_> { a: &'_ str }",
            "struct S<'__de> { a: &'__de str }",
            "struct S<__D, const __S: usize>(__D, [u8; __S]);",
            "struct S { r#type: u8, r#async: u8, r#gen: u8, union: u8, auto: u8, self_: u8 }",
            "enum S { r#Self_ { r#in: r#type::r#mod }, r#_x(u8) }",
            "struct __Members0 { __f0: u8 }",
            "struct S { __f1: u8, __fsword_t: __fsword_t, value: u8, of: u8 }",
            "struct r#struct<'r#a, r#T> { r#fn: &'r#a r#T }",
        ] {
            let Ok(input) = syn::parse_str(text) else {
                continue;
            };
            if let Ok(tokens) = message(&input) {
                let written = tokens.to_string();
                assert!(
                    syn::parse2::<syn::File>(tokens).is_ok(),
                    "{text}: {written}"
                );
            }
        }
        for (text, reason) in [
            (
                "struct S { _: u8 }",
                "a field needs a name, which is its name on the wire",
            ),
            ("struct S<'_> { a: u8 }", "a parameter needs a name"),
        ] {
            let error = message(&syn::parse_str(text).unwrap()).unwrap_err();
            assert_eq!(error.to_string(), reason);
        }
    }

    #[test]
    fn a_type_is_refused_or_what_is_generated_for_it_is_rust() {
        for ty in [
            "A +",
            "A + B",
            "(A + B)",
            "(?A) + B",
            "'a",
            "'a + B",
            "for<'a> A<'a>",
            "dyn A +",
            "dyn A + B",
            "(dyn A + B)",
            "impl A",
            "impl A +",
            "impl A + B",
            "_",
            "unsafe<'a> A",
            "dyn* A",
            "builtin # a(b)",
            "!",
            "a!()",
            "fn(A +) -> B",
            "fn(A) -> (B +)",
            "fn(&dyn A)",
            "&A",
            "*const A",
            "[A]",
            "[A; 1]",
            "<A + as B>::C",
            "<A as B>::C",
            "<A>::B",
            "A<B +>",
            "A<B = C +>",
            "A<B: C +>",
            "dyn A(B +)",
            "dyn A(B) -> C",
            "dyn A<B +>",
            "A<{ 1 }>",
            "A<-1>",
            "A<'a, B = C>",
            "A::<B>::C",
            "(A)",
            "(A,)",
            "()",
        ] {
            let wrapped = ["{}", "B<{}, C = {}>"];
            for ty in wrapped.map(|around| around.replace("{}", ty)) {
                for item in [
                    "struct S { a: TYPE }",
                    "struct S(TYPE);",
                    "struct S { #[serde(default, skip_serializing_if = \"f\")] a: TYPE, b: TYPE }",
                    "struct S { #[serde(with = \"m\")] a: TYPE }",
                    "struct S<T> { #[fd] a: TYPE, #[sensitive] b: TYPE, c: T }",
                    "enum S<T> { V { a: TYPE, t: T }, W(TYPE) }",
                    "#[message(reply = TYPE, error = TYPE)] enum S { V { a: TYPE } }",
                    "trait S { fn f(&self, a: TYPE) -> u8; }",
                    "trait S { fn f(&self, a: &TYPE) -> TYPE; }",
                    "trait S { fn f(&self, #[fd] a: TYPE) -> Result<TYPE, TYPE>; }",
                ] {
                    let text = item.replace("TYPE", &ty);
                    let tokens = if let Ok(input) = syn::parse_str(&text) {
                        message(&input)
                    } else if let Ok(input) = syn::parse_str(&text) {
                        service::service(quote!(name = "a"), input)
                    } else {
                        continue;
                    };
                    if let Ok(tokens) = tokens {
                        let written = tokens.to_string();
                        assert!(
                            syn::parse2::<syn::File>(tokens).is_ok(),
                            "{text}: {written}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_representation_is_no_obstacle() {
        let text = expanded(syn::parse_quote! {
            #[repr(C, align(8))]
            struct Point { x: u8 }
        });
        assert!(text.contains("serialize_struct"));
    }

    #[test]
    fn another_path_to_the_library_is_used() {
        let text = expanded(syn::parse_quote! {
            #[message(crate = "crate::rpc")]
            struct Opened { #[fd] file: File }
        });
        assert!(text.contains("crate :: rpc :: private :: Pack"));
        assert!(!text.contains(":: jsoncomm"));
    }
}
