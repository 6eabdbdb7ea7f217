//! Arbitrary Rust through the macros: they generate code or report errors, and never panic.
//!
//! The input is a source file; each struct and enum in it goes through `derive(Message)`, each trait through
//! `#[service]`. `__group(...)` stands for a group without delimiters, as `macro_rules!` makes of its arguments.

#![no_main]

// The macros' own sources: a crate of macros is not a library.
#[path = "../jsoncomm-derive/src"]
#[allow(dead_code, unreachable_pub)]
mod macros {
    pub(crate) mod ast;
    pub(crate) mod attr;
    pub(crate) mod check;
    pub(crate) mod ctxt;
    pub(crate) mod expand;
    pub(crate) mod library;
}
use macros::{ast, attr, check, ctxt, expand, library};

use libfuzzer_sys::{Corpus, fuzz_target};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, ItemTrait};

/// Replaces `__group(...)` by its content, in a group without delimiters.
fn with_groups(tokens: TokenStream) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    for token in tokens {
        let TokenTree::Group(group) = token else {
            out.push(token);
            continue;
        };
        let marked = matches!(out.last(), Some(TokenTree::Ident(ident)) if ident == "__group");
        let delimiter = if marked {
            Delimiter::None
        } else {
            group.delimiter()
        };
        if marked {
            out.pop();
        }
        out.push(Group::new(delimiter, with_groups(group.stream())).into());
    }
    out.into_iter().collect()
}

/// Removes `#[service(...)]` from a trait, and returns its arguments.
fn options(item: &mut ItemTrait) -> TokenStream {
    let is_ours = |attribute: &syn::Attribute| {
        let last = attribute.path().segments.last();
        last.is_some_and(|segment| segment.ident == "service")
    };
    let Some(index) = item.attrs.iter().position(is_ours) else {
        return TokenStream::new();
    };
    match item.attrs.remove(index).meta {
        syn::Meta::List(list) => list.tokens,
        syn::Meta::Path(_) | syn::Meta::NameValue(_) => TokenStream::new(),
    }
}

/// Expands one item, if one of our macros is for it.
fn expanded(item: Item) -> Option<syn::Result<TokenStream>> {
    match item {
        Item::Struct(_) | Item::Enum(_) | Item::Union(_) => {
            let input = syn::parse2(item.into_token_stream()).ok()?;
            Some(expand::message(&input))
        }
        Item::Trait(mut item) => {
            let options = options(&mut item);
            Some(expand::service::service(options, item))
        }
        _ => None,
    }
}

fuzz_target!(|input: &str| -> Corpus {
    let Ok(tokens) = input.parse::<TokenStream>() else {
        return Corpus::Reject;
    };
    let Ok(file) = syn::parse2::<syn::File>(with_groups(tokens)) else {
        return Corpus::Keep;
    };
    for outcome in file.items.into_iter().filter_map(expanded) {
        match outcome {
            Ok(tokens) => {
                let text = tokens.to_string();
                if let Err(error) = syn::parse2::<syn::File>(tokens) {
                    panic!("what was written is no Rust: {error}\n{text}");
                }
            }
            Err(error) => {
                let _ = error.into_compile_error().to_string();
            }
        }
    }
    Corpus::Keep
});
