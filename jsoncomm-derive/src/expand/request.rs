//! `impl Request`: what an enum of requests is answered with, and its methods' names.

use super::describe;
use crate::ast::Message;
use proc_macro2::TokenStream;
use quote::quote;

/// Writes the impl, for an enum with `#[message(reply = ...)]`.
pub(crate) fn message(message: &Message) -> TokenStream {
    let attrs = &message.attrs;
    let Some(reply) = &attrs.reply else {
        return TokenStream::new();
    };
    let p = &message.private();
    let error = match &attrs.error {
        Some(error) => quote!(#error),
        None => quote!(::core::convert::Infallible),
    };
    let service = attrs
        .service
        .as_ref()
        .map(|name| name.value())
        .unwrap_or_default();
    let methods = message
        .variants()
        .iter()
        .map(|variant| message.method(variant));
    let arms = message
        .variants()
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let ident = &variant.ident;
            quote!(Self::#ident { .. } => #index,)
        });
    let ident = &message.ident;
    let description = describe::requests(message, &quote!(#reply), &error);
    quote! {
        #[automatically_derived]
        impl #p::Request for #ident {
            type Reply = #reply;
            type Error = #error;
            const SERVICE: &'static str = #service;
            const METHODS: &'static [&'static str] = &[#(#methods),*];

            fn method(&self) -> usize {
                match self { #(#arms)* }
            }
        }
        #description
    }
}
