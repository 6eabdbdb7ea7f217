//! `impl Request`: the types of the reply, and the methods' names.

use super::{describe, implementation};
use crate::ast::Message;
use proc_macro2::TokenStream;
use quote::quote;

/// Writes the impl, for an enum with `#[message(reply = ...)]`.
pub(crate) fn message(message: &Message) -> TokenStream {
    let attrs = &message.attrs;
    let Some(reply) = &attrs.reply else {
        return TokenStream::new();
    };
    let error = match &attrs.error {
        Some(error) => quote!(#error),
        None => quote!(::core::convert::Infallible),
    };
    let service = message.service();
    let variants = message.variants();
    let methods: Vec<_> = variants.iter().map(|of| message.method(of)).collect();
    let idents: Vec<_> = variants.iter().map(|of| &of.ident).collect();
    let indices = 0..variants.len();
    let full_names = methods.iter().map(|method| format!("{service}.{method}"));
    let description = describe::requests(message, &quote!(#reply), &error);
    let items = quote! {
        type Reply = #reply;
        type Error = #error;
        const SERVICE: &'static str = #service;
        const METHODS: &'static [&'static str] = &[#(#methods),*];

        fn method(&self) -> usize {
            match self { #(Self::#idents { .. } => #indices,)* }
        }

        fn full_name(&self) -> __p::Cow<'static, str> {
            __p::Cow::Borrowed(match self { #(Self::#idents { .. } => #full_names,)* })
        }
    };
    let request = implementation(message, &quote!(__p::Request), &message.generics, &items);
    quote!(#request #description)
}
