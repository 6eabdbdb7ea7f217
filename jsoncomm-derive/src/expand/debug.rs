//! `impl Debug` for a type with `#[sensitive]` fields: what std's derive writes, without their values.

use super::{generics, site};
use crate::ast::{Body, Field, Message, Shape};
use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::Member;
use syn::ext::IdentExt;

/// Writes the impl, if a field is sensitive.
pub(crate) fn message(message: &Message) -> TokenStream {
    if !message.is_sensitive() {
        return TokenStream::new();
    }
    let arms: Vec<_> = match &message.shape {
        Shape::Struct(body) => vec![arm(&quote!(Self), &message.ident, body)],
        Shape::Enum(variants) => variants
            .iter()
            .map(|variant| {
                let ident = &variant.ident;
                arm(&quote!(Self::#ident), ident, &variant.body)
            })
            .collect(),
    };
    let ident = &message.ident;
    let generics = generics::debug(message);
    let (params, _, clause) = generics.split_for_impl();
    let (_, arguments, _) = message.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #params ::core::fmt::Debug for #ident #arguments #clause {
            fn fmt(&self, __out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self { #(#arms)* }
            }
        }
    }
}

/// Prints a struct or variant.
fn arm(path: &TokenStream, ident: &Ident, body: &Body) -> TokenStream {
    let name = ident.unraw().to_string();
    let shown = body.fields.iter().filter(|field| !field.is_sensitive());
    let pattern = shown.map(|field| {
        let (member, local) = (&field.member, &field.local);
        quote!(#member: #local,)
    });
    let tuple = matches!(
        body.fields.first().map(|field| &field.member),
        Some(Member::Unnamed(_))
    );
    let (begin, kind) = match tuple {
        true => (quote!(debug_tuple), quote!(DebugTuple)),
        false => (quote!(debug_struct), quote!(DebugStruct)),
    };
    let begun = quote!(&mut ::core::fmt::Formatter::#begin(__out, #name));
    let fields = body.fields.iter();
    let written = fields.fold(begun, |written, field| one(field, &kind, &written));
    quote! {
        #path { #(#pattern)* .. } => ::core::fmt::#kind::finish(#written),
    }
}

/// Prints one field behind what is `written` before it.
fn one(field: &Field, kind: &TokenStream, written: &TokenStream) -> TokenStream {
    let name = match &field.member {
        Member::Named(ident) => {
            let name = ident.unraw().to_string();
            quote!(#name,)
        }
        Member::Unnamed(_) => TokenStream::new(),
    };
    let value = match field.is_sensitive() {
        true => quote!(&::core::format_args!("<sensitive>")),
        false => {
            // At the type's place, for the error that it cannot be printed.
            let local = Ident::new(&field.local.to_string(), site(&field.ty));
            quote_spanned!(site(&field.ty)=> &#local)
        }
    };
    quote!(::core::fmt::#kind::field(#written, #name #value))
}
