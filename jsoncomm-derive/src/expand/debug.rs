//! `impl Debug` for a type with `#[sensitive]` fields: like std's derive, without their values.

use super::{generics, implementation, site};
use crate::ast::{Body, Field, Message, Shape, Variant};
use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::Member;
use syn::ext::IdentExt;

/// Writes the impl, if a field is sensitive.
pub(crate) fn message(message: &Message) -> TokenStream {
    if !message.is_sensitive() {
        return TokenStream::new();
    }
    let arms: TokenStream = match &message.shape {
        Shape::Struct(body) => arm(&quote!(Self), &message.ident, body),
        Shape::Enum(variants) => {
            let arm =
                |Variant { ident, body, .. }: &Variant| arm(&quote!(Self::#ident), ident, body);
            variants.iter().map(arm).collect()
        }
    };
    let fmt = quote! {
        fn fmt(&self, __out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            match *self { #arms }
        }
    };
    let of = quote!(::core::fmt::Debug);
    implementation(message, &of, &generics::debug(message), &fmt)
}

/// Prints a struct or variant.
fn arm(path: &TokenStream, ident: &Ident, body: &Body) -> TokenStream {
    let name = ident.unraw().to_string();
    let pattern = body.pattern(|field| !field.is_sensitive());
    let (begin, kind) = match body.fields.first().map(|field| &field.member) {
        Some(Member::Unnamed(_)) => (quote!(debug_tuple), quote!(DebugTuple)),
        _ => (quote!(debug_struct), quote!(DebugStruct)),
    };
    let begun = quote!(&mut ::core::fmt::Formatter::#begin(__out, #name));
    let fields = body.fields.iter();
    let written = fields.fold(begun, |written, field| one(field, &kind, &written));
    quote!(#path #pattern => ::core::fmt::#kind::finish(#written),)
}

/// Prints one field after what is `written` before it.
fn one(field: &Field, kind: &TokenStream, written: &TokenStream) -> TokenStream {
    let name = match &field.member {
        Member::Named(ident) => vec![ident.unraw().to_string()],
        Member::Unnamed(_) => Vec::new(),
    };
    let value = if field.is_sensitive() {
        quote!(&::core::format_args!("<sensitive>"))
    } else {
        let local = field.local_at_type();
        quote_spanned!(site(&field.ty)=> &#local)
    };
    quote!(::core::fmt::#kind::field(#written, #(#name,)* #value))
}
