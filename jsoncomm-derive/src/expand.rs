//! The code that the macros generate.
//!
//! It fills in tables: names, types, functions. Visitors and errors are the library's, which is `__p` in generated code;
//! `__s` is serde. All of it is in a `const _`, so that the names of helper types are its own.

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
use syn::spanned::Spanned;
use syn::{DeriveInput, Generics, Path};

/// Expands `derive(Message)`.
pub(crate) fn message(input: &DeriveInput) -> syn::Result<TokenStream> {
    let cx = Ctxt::new();
    let message = Message::from_syn(&cx, input);
    if let Some(message) = &message {
        check::message(&cx, message);
    }
    cx.finish()?;
    let written = message.as_ref().map(impl_message);
    Ok(written.map(generated).unwrap_or_default())
}

fn impl_message(message: &Message) -> TokenStream {
    let names = names(&message.attrs.library, &message.attrs.schema);
    let allowed = &message.allowed;
    let shape = describe::shape(message);
    let (pack, unpack) = if message.attrs.delegate.is_some() {
        (pack::delegate(message, &shape), unpack::delegate(message))
    } else {
        (pack::message(message, &shape), unpack::message(message))
    };
    let (request, debug) = (request::message(message), debug::message(message));
    let without_fds = generics::without_fds(message);
    quote! {
        #[doc(hidden)]
        #(#allowed)*
        const _: () = {
            #names
            #pack #unpack #without_fds #request #debug
        };
    }
}

/// Writes the imports of generated code: the library, and the traits that select how fields travel and what they look like.
fn names(given: &Option<Path>, schema: &Option<Path>) -> TokenStream {
    let library = library(given);
    let shapes = match schema {
        Some(_) => quote!(schemas),
        None => quote!(shapes),
    };
    quote! {
        use #library as __p;
        use #library::#shapes::*;
    }
}

/// Writes the path of the library's names for generated code.
fn library(given: &Option<Path>) -> TokenStream {
    match given {
        Some(library) => quote!(#library::private),
        None => quote!(::jsoncomm::private),
    }
}

/// Writes an impl of a trait for the type.
fn implementation(
    message: &Message,
    of: &TokenStream,
    generics: &Generics,
    items: &TokenStream,
) -> TokenStream {
    let (params, _, clause) = generics.split_for_impl();
    let whole = message.whole();
    quote! {
        #[automatically_derived]
        impl #params #of for #whole #clause { #items }
    }
}

/// The code of an enum's variant.
fn code(index: usize) -> i64 {
    i64::try_from(index + 1).unwrap_or(i64::MAX)
}

/// Returns the place for an error about `of`. Names resolve as in the rest of the generated code, also where `of` comes
/// from another macro.
fn site(of: &impl Spanned) -> Span {
    of.span().resolved_at(Span::call_site())
}

/// Makes all tokens part of the generated code, the user's types included: lints are about what the user wrote, in its
/// own place. A macro's `$crate` keeps its span, which is the only thing that says which crate it is.
fn generated(tokens: TokenStream) -> TokenStream {
    with_spans(tokens, &|token| match token {
        TokenTree::Ident(ident) if ident == "$crate" => ident.span(),
        token => token.span().resolved_at(Span::call_site()),
    })
}

/// Moves all tokens to one place, so that errors about them are the same error. The meaning of their names stays.
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
    fn a_struct_with_quoted_type_parameters_expands() {
        let text = expanded(syn::parse_quote! {
            #[serde(deny_unknown_fields)]
            struct Open<P0, P1> { path: P0, #[fd] sink: P1 }
        });
        assert!(text.contains("P0 : __s :: Serialize"));
        assert!(text.contains("P1 : __p :: Pack"));
        assert!(text.contains("strict : true"));
    }

    #[test]
    fn unusual_names_are_refused_or_expand_to_valid_rust() {
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

    const TYPES: &[&str] = &[
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
    ];

    const ITEMS: &[&str] = &[
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
    ];

    #[test]
    fn every_type_is_refused_or_expands_to_valid_rust() {
        for ty in TYPES {
            let wrapped = ["{}", "B<{}, C = {}>"];
            for ty in wrapped.map(|around| around.replace("{}", ty)) {
                for item in ITEMS {
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
    fn repr_attributes_are_accepted() {
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
        assert!(text.contains("use crate :: rpc :: private as __p"));
        assert!(!text.contains(":: jsoncomm"));
    }
}
