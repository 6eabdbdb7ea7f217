//! `impl Request`: the types of the reply, and the methods' names.

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
    let error = match &attrs.error {
        Some(error) => quote!(#error),
        None => quote!(::core::convert::Infallible),
    };
    let service = attrs
        .service
        .as_ref()
        .map(|name| name.value())
        .unwrap_or_default();
    let variants = message.variants();
    let methods: Vec<_> = variants.iter().map(|of| message.method(of)).collect();
    let idents: Vec<_> = variants.iter().map(|of| &of.ident).collect();
    let indices = 0..variants.len();
    let full_names = methods.iter().map(|method| format!("{service}.{method}"));
    let ident = &message.ident;
    let description = describe::requests(message, &quote!(#reply), &error);
    quote! {
        #[automatically_derived]
        impl __p::Request for #ident {
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
        }
        #description
    }
}
