//! `impl Unpack`: for each struct or variant a table of its members, for an enum one of its variants.

use super::{generics, site};
use crate::ast::{self, Body, Field, Message, Shape, Style, Variant};
use crate::attr::Default;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};

/// Writes the impl.
pub(crate) fn message(message: &Message) -> TokenStream {
    let p = &message.private();
    let rust = message.rust_name();
    let (tables, body) = match &message.shape {
        Shape::Struct(body) => {
            let expecting = match body.style {
                Style::Named => format!("struct {rust}"),
                Style::Tuple | Style::Newtype => format!("tuple struct {rust}"),
                Style::Unit => format!("unit struct {rust}"),
            };
            let path = &message.ident;
            structure(message, body, &quote!(#path), &expecting)
        }
        Shape::Enum(variants) => enumeration(message, variants),
    };
    let ident = &message.ident;
    let generics = generics::with_text(message, &generics::unpack(message));
    let (params, _, clause) = generics.split_for_impl();
    let (_, arguments, _) = message.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #params #p::Unpack<'__de> for #ident #arguments #clause {
            fn unpack<__D: #p::serde::Deserializer<'__de>>(
                __fds: &#p::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                #body
            }
        }
        #tables
    }
}

/// Writes the impl that leaves everything to serde.
pub(crate) fn delegate(message: &Message) -> TokenStream {
    let p = &message.private();
    let ident = &message.ident;
    let (_, arguments, _) = message.generics.split_for_impl();
    let mut generics = message.generics.clone();
    let whole = syn::parse_quote!(#ident #arguments: #p::serde::Deserialize<'__de>);
    generics.make_where_clause().predicates.push(whole);
    generics.params.insert(0, syn::parse_quote!('__de));
    let (params, _, clause) = generics.split_for_impl();
    let read = quote!(#p::serde::Deserialize::deserialize(__from));
    // Which field serde stumbles over is not known here.
    let read = match message.is_sensitive() {
        true => quote!(__fds.sensitive(#read)),
        false => read,
    };
    quote! {
        #[automatically_derived]
        impl #params #p::Unpack<'__de> for #ident #arguments #clause {
            fn unpack<__D: #p::serde::Deserializer<'__de>>(
                __fds: &#p::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                #read
            }

            fn absent() -> ::core::option::Option<Self> {
                #p::absent()
            }
        }
    }
}

/// A struct's table, and how to read it.
fn structure(
    message: &Message,
    body: &Body,
    path: &TokenStream,
    expecting: &str,
) -> (TokenStream, TokenStream) {
    let p = &message.private();
    if body.style == Style::Unit {
        let expecting = message.attrs.expecting.as_deref().unwrap_or(expecting);
        let read = quote! {
            #p::unit_struct(__from, #expecting)?;
            ::core::result::Result::Ok(#path {})
        };
        return (TokenStream::new(), read);
    }
    let name = format_ident!("__Members");
    let (_, arguments) = table_params(message);
    let read = match body.style {
        Style::Newtype => quote!(newtype),
        _ => quote!(members),
    };
    let table = table(message, &name, body, path, expecting);
    let read = quote!(#p::#read::<#name #arguments, __D>(__fds, __from));
    (table, in_place(message, body, expecting, read))
}

/// Says nothing of what stands where members should of which one is sensitive. A newtype's only member is
/// itself what stands there.
fn in_place(message: &Message, body: &Body, expecting: &str, read: TokenStream) -> TokenStream {
    if body.style == Style::Newtype || !body.is_sensitive() {
        return read;
    }
    let expecting = message.attrs.expecting.as_deref().unwrap_or(expecting);
    quote!(__fds.in_place(#expecting, #read))
}

/// An enum's tables, and how to read it.
fn enumeration(message: &Message, variants: &[Variant]) -> (TokenStream, TokenStream) {
    let p = &message.private();
    let rust = message.rust_name();
    let ident = &message.ident;
    let named = |v: &&Variant| !v.attrs.skip_de && v.attrs.other.is_none();
    let readable: Vec<_> = variants.iter().filter(named).collect();
    let other = variants.iter().find(|v| v.attrs.other.is_some());
    let other = other.map(|variant| {
        let ident = &variant.ident;
        let ty = variant.body.fields.first().map(|field| site(&field.ty));
        let make = quote_spanned!(ty.unwrap_or_else(|| site(ident))=> Self::#ident(__unknown));
        quote! {
            const OTHER: ::core::option::Option<fn(#p::UnknownVariant) -> Self> =
                ::core::option::Option::Some(|__unknown: #p::UnknownVariant| #make);
        }
    });
    let (kind, read) = match (&message.attrs.tag, &message.attrs.content) {
        (Some(tag), Some(content)) => {
            let strict = message.attrs.strict;
            let call = quote!(#p::adjacent::<Self, __D>(__fds, __from, &[#tag, #content], #strict));
            ("adjacently tagged enum", call)
        }
        _ => ("enum", quote!(#p::external::<Self, __D>(__fds, __from))),
    };
    let expecting = message.attrs.expecting.clone();
    let expecting = expecting.unwrap_or_else(|| format!("{kind} {rust}"));
    let names = readable.iter().map(|variant| &variant.names.de);
    let known = readable.iter().flat_map(|variant| &variant.names.known);
    let find = find(readable.iter().map(|variant| &variant.names));
    let mut tables = TokenStream::new();
    let mut arms = Vec::new();
    for (index, variant) in readable.iter().enumerate() {
        let (table, read) = self::variant(message, variant, index);
        tables.extend(table);
        arms.push(quote!(#index => #read,));
    }
    let sensitive = message.is_sensitive().then(|| {
        quote!(
            const SENSITIVE: bool = true;
        )
    });
    let generics = generics::with_text(message, &generics::unpack(message));
    let (params, _, clause) = generics.split_for_impl();
    let (_, arguments, _) = message.generics.split_for_impl();
    tables.extend(quote! {
        #[automatically_derived]
        impl #params #p::Variants<'__de> for #ident #arguments #clause {
            const EXPECTING: &'static str = #expecting;
            const NAMES: &'static [&'static str] = &[#(#names),*];
            const KNOWN: &'static [&'static str] = &[#(#known),*];
            #sensitive
            #other

            #find

            fn variant<__C: #p::Content<'__de>>(
                __index: usize,
                __content: __C,
                __fds: &#p::Unpacker,
            ) -> ::core::result::Result<Self, __C::Error> {
                match __index {
                    #(#arms)*
                    _ => ::core::result::Result::Err(#p::serde::de::Error::custom("no such variant")),
                }
            }
        }
    });
    (tables, read)
}

/// A variant's table, and how to read it.
fn variant(message: &Message, variant: &Variant, index: usize) -> (TokenStream, TokenStream) {
    let p = &message.private();
    let (enum_ident, ident) = (&message.ident, &variant.ident);
    let path = quote!(#enum_ident::#ident);
    let body = &variant.body;
    let rust = format!("{}::{ident}", message.rust_name());
    let unit = match body.style {
        Style::Unit => true,
        Style::Newtype => body.read().next().is_none(),
        _ => false,
    };
    if unit {
        // A newtype's only field may be skipped.
        let fields = body.fields.iter().map(|field| made_up(message, field));
        let read = quote! {{
            #p::Content::unit(__content, __fds)?;
            ::core::result::Result::Ok(#path { #(#fields)* })
        }};
        return (TokenStream::new(), read);
    }
    let (read, kind) = match body.style {
        Style::Newtype => (quote!(newtype), "newtype"),
        Style::Tuple => (quote!(members), "tuple"),
        _ => (quote!(members), "struct"),
    };
    let name = format_ident!("__Members{index}");
    let expecting = format!("{kind} variant {rust}");
    let table = table(message, &name, body, &path, &expecting);
    let (_, arguments) = table_params(message);
    let read = quote!(#p::Content::#read::<#name #arguments>(__content, __fds));
    (table, in_place(message, body, &expecting, read))
}

/// The parameters of a table, on its definition and as arguments.
fn table_params(message: &Message) -> (syn::Generics, TokenStream) {
    let generics = generics::with_text(message, &generics::unpack(message));
    let (_, arguments, _) = generics.split_for_impl();
    let arguments = quote!(#arguments);
    (generics, arguments)
}

/// A type with an `Option` for each member that is read, and its `impl Members`.
fn table(
    message: &Message,
    name: &Ident,
    body: &Body,
    path: &TokenStream,
    expecting: &str,
) -> TokenStream {
    let p = &message.private();
    let ident = &message.ident;
    let expecting = message.attrs.expecting.as_deref().unwrap_or(expecting);
    let (generics, with_text) = table_params(message);
    let (params, _, clause) = generics.split_for_impl();
    let (_, arguments, _) = message.generics.split_for_impl();
    let fields: Vec<_> = body.read().collect();
    let locals: Vec<_> = fields.iter().map(|field| &field.local).collect();
    let types = fields.iter().map(|field| &field.ty);
    let names = fields.iter().map(|field| &field.names.de);
    let named = body.style == Style::Named;
    let known = fields
        .iter()
        .filter(|_| named)
        .flat_map(|field| &field.names.known);
    let strict = message.attrs.strict || message.attrs.reply.is_some();
    let of_method = message.arguments;
    let of_method = of_method.then(|| {
        quote!(
            const ARGUMENTS: bool = true;
        )
    });
    let find = find(fields.iter().filter(|_| named).map(|field| &field.names));
    let is_read = locals
        .iter()
        .enumerate()
        .map(|(index, local)| quote!(#index => ::core::option::Option::is_some(&self.#local),));
    let reads = fields.iter().enumerate().map(|(index, field)| {
        let (local, read) = (&field.local, read(message, field));
        quote!(#index => self.#local = ::core::option::Option::Some(#read),)
    });
    let default = message.attrs.default.as_ref().map(|(_, default)| {
        let make = match default {
            Default::Trait => quote!(::core::default::Default::default),
            Default::Path(path) => quote!(#path),
        };
        quote!(let __default: #ident #arguments = #make();)
    });
    let values = body.fields.iter().map(|field| match field.attrs.skip_de {
        true => made_up(message, field),
        false => finished(message, field),
    });
    quote! {
        struct #name #params #clause {
            #(#locals: ::core::option::Option<#types>,)*
            __of: ::core::marker::PhantomData<(&'__de (), #ident #arguments)>,
        }

        #[automatically_derived]
        impl #params #p::Members<'__de> for #name #with_text #clause {
            type Value = #ident #arguments;
            const EXPECTING: &'static str = #expecting;
            const NAMES: &'static [&'static str] = &[#(#names),*];
            const KNOWN: &'static [&'static str] = &[#(#known),*];
            const NAMED: bool = #named;
            const STRICT: bool = #strict;
            #of_method

            fn new() -> Self {
                Self {
                    #(#locals: ::core::option::Option::None,)*
                    __of: ::core::marker::PhantomData,
                }
            }

            #find

            fn is_read(&self, __index: usize) -> bool {
                match __index { #(#is_read)* _ => false }
            }

            fn read<__D: #p::serde::Deserializer<'__de>>(
                &mut self,
                __index: usize,
                __fds: &#p::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<(), __D::Error> {
                match __index { #(#reads)* _ => {} }
                ::core::result::Result::Ok(())
            }

            fn finish<__E: #p::serde::de::Error>(
                self,
                __absence: #p::Absence<'_>,
            ) -> ::core::result::Result<Self::Value, __E> {
                #default
                ::core::result::Result::Ok(#path { #(#values)* })
            }
        }
    }
}

/// The function that finds a place by a name.
fn find<'a>(all: impl Iterator<Item = &'a ast::Names>) -> TokenStream {
    let arms = all.enumerate().map(|(index, names)| {
        let known = &names.known;
        let known = known.iter();
        quote!(#(#known)|* => ::core::option::Option::Some(#index),)
    });
    quote! {
        fn find(__name: &str) -> ::core::option::Option<usize> {
            match __name { #(#arms)* _ => ::core::option::Option::None }
        }
    }
}

/// Reads one field.
fn read(message: &Message, field: &Field) -> TokenStream {
    let p = &message.private();
    let ty = &field.ty;
    let fd = field.attrs.fd.is_some();
    let (span, read) = match (&field.attrs.with.de, ast::cow(field)) {
        (Some(function), _) => {
            let span = site(function);
            (span, quote_spanned!(span=> #function(__from)))
        }
        (None, Some(syn::Type::Slice(_))) => (site(ty), quote!(#p::borrow_cow_bytes(__from))),
        (None, Some(_)) => (site(ty), quote!(#p::borrow_cow_str(__from))),
        (None, None) if fd => {
            let read = quote_spanned!(site(ty)=> <#ty as #p::UnpackPart<'__de>>::unpack_part(__fds, __from));
            (site(ty), read)
        }
        (None, None) => {
            let read = quote_spanned! {site(ty)=>
                (&&&#p::Probe::<#ty>::new()).read_field(__fds, __from)
            };
            (site(ty), read)
        }
    };
    match field.is_sensitive() {
        true => quote_spanned!(span=> __fds.sensitive(#read)?),
        false => quote_spanned!(span=> #read?),
    }
}

/// One member of the value, from what was read or from what stands for it when it is absent.
fn finished(message: &Message, field: &Field) -> TokenStream {
    let (member, local, name) = (&field.member, &field.local, &field.names.de);
    let (p, ty) = (&message.private(), &field.ty);
    let absent = match (&field.attrs.default, &message.attrs.default) {
        (Some(default), _) => defaulted(default),
        (None, Some(_)) => quote!(__default.#member),
        (None, None) if field.attrs.with.de.is_some() || ast::cow(field).is_some() => {
            quote!(__absence.refuse(#name)?)
        }
        (None, None) if field.attrs.fd.is_some() => {
            quote_spanned!(site(ty)=> __absence.fd::<#ty, __E>(#name)?)
        }
        (None, None) => quote_spanned! {site(ty)=>
            (&&&#p::Probe::<#ty>::new()).absent_field::<__E>(__absence, #name)?
        },
    };
    quote! {
        #member: match self.#local {
            ::core::option::Option::Some(__value) => __value,
            ::core::option::Option::None => #absent,
        },
    }
}

/// One member that is never read.
fn made_up(message: &Message, field: &Field) -> TokenStream {
    let member = &field.member;
    let value = match (&field.attrs.default, &message.attrs.default) {
        (Some(default), _) => defaulted(default),
        (None, Some(_)) => quote!(__default.#member),
        (None, None) => defaulted(&Default::Trait),
    };
    quote!(#member: #value,)
}

fn defaulted(default: &Default) -> TokenStream {
    match default {
        Default::Trait => quote!(::core::default::Default::default()),
        Default::Path(path) => quote_spanned!(site(path)=> #path()),
    }
}
