//! `impl Unpack`: a table of the members for each struct or variant, and one of the variants for an enum.

use super::{generics, implementation, site};
use crate::ast::service::{Method, Service};
use crate::ast::{Body, Field, Message, Names, Shape, Style, Variant};
use crate::attr::DefaultValue;
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Generics;

/// Writes the impl.
pub(crate) fn message(message: &Message) -> TokenStream {
    let (tables, read) = match &message.shape {
        Shape::Struct(body) => structure(message, body),
        Shape::Enum(variants) => enumeration(message, variants),
    };
    let generics = generics::unpack(message);
    let unpack = unpack(message, &generics, &read, None);
    quote!(#unpack #tables)
}

/// Writes the impl that leaves everything to serde.
pub(crate) fn delegate(message: &Message) -> TokenStream {
    let mut generics = generics::whole(message, &quote!(__s::Deserialize<'__de>));
    generics.params.insert(0, syn::parse_quote!('__de));
    let mut read = quote!(__p::whole(__s::Deserialize::deserialize(__from)));
    // An error of serde does not say which field it is about.
    if message.is_sensitive() {
        read = quote!(__fds.sensitive(#read));
    }
    let absent = quote! {
        fn absent() -> ::core::option::Option<Self> { __p::absent() }
    };
    unpack(message, &generics, &read, Some(absent))
}

fn unpack(
    message: &Message,
    generics: &Generics,
    read: &TokenStream,
    absent: Option<TokenStream>,
) -> TokenStream {
    let items = quote! {
        fn unpack<__D: __s::Deserializer<'__de>>(
            __fds: &__p::Unpacker,
            __from: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            #read
        }
        #absent
    };
    implementation(message, &quote!(__p::Unpack<'__de>), generics, &items)
}

/// Writes a struct's table, and the expression that reads it.
fn structure(message: &Message, body: &Body) -> (TokenStream, TokenStream) {
    let (kind, read) = match body.style {
        Style::Named => ("struct", quote!(members)),
        Style::Tuple => ("tuple struct", quote!(members)),
        Style::Newtype => ("tuple struct", quote!(newtype)),
        Style::Unit => ("unit struct", quote!(unit_struct)),
    };
    let expecting = expecting(message, format!("{kind} {}", message.rust_name()));
    if body.style == Style::Unit {
        let read = quote! {
            __p::#read(__from, #expecting)?;
            ::core::result::Result::Ok(Self {})
        };
        return (TokenStream::new(), read);
    }
    let table = Table::new(message, body, format_ident!("__Members"), expecting);
    let arguments = table.arguments();
    let read = quote!(__p::#read::<#arguments, __D>(__fds, __from));
    (table.of_message(&message.ident.to_token_stream()), read)
}

/// What an error says is expected, unless `#[serde(expecting = "...")]` says it.
fn expecting(message: &Message, usual: String) -> String {
    message.attrs.expecting.clone().unwrap_or(usual)
}

/// Writes an enum's tables, and the expression that reads it.
fn enumeration(message: &Message, variants: &[Variant]) -> (TokenStream, TokenStream) {
    let (kind, read) = match (&message.attrs.tag, &message.attrs.content) {
        (Some(tag), Some(content)) => {
            let strict = message.attrs.strict.is_some();
            let names = quote!(&[#tag, #content]);
            let read = quote!(__p::adjacent::<Self, __D>(__fds, __from, #names, #strict));
            ("adjacently tagged enum", read)
        }
        _ => ("enum", quote!(__p::external::<Self, __D>(__fds, __from))),
    };
    let expecting = expecting(message, format!("{kind} {}", message.rust_name()));
    let named = |v: &&Variant| !v.attrs.skip_de && v.attrs.other.is_none();
    let readable: Vec<_> = variants.iter().filter(named).collect();
    let names = readable.iter().map(|variant| &variant.names.de);
    let known = readable.iter().flat_map(|variant| &variant.names.known);
    let find = find(readable.iter().map(|variant| &variant.names));
    let each = readable.iter().enumerate();
    let (mut tables, arms): (TokenStream, Vec<_>) = each
        .map(|(index, variant)| {
            let (table, read) = self::variant(message, variant, index);
            (table, quote!(#index => #read,))
        })
        .unzip();
    let other = variants.iter().find(|v| v.attrs.other.is_some()).map(other);
    let generics = generics::unpack(message);
    let items = quote! {
        const EXPECTING: &'static str = #expecting;
        const NAMES: &'static [&'static str] = &[#(#names),*];
        const KNOWN: &'static [&'static str] = &[#(#known),*];
        #other
        #find

        fn variant<__D: __s::Deserializer<'__de>>(
            __index: usize,
            __content: __p::Content<__D>,
            __fds: &__p::Unpacker,
        ) -> ::core::result::Result<Self, __D::Error> {
            match __index {
                #(#arms)*
                _ => ::core::result::Result::Err(__s::de::Error::custom("no such variant")),
            }
        }
    };
    let variants = quote!(__p::Variants<'__de>);
    tables.extend(implementation(message, &variants, &generics, &items));
    (tables, read)
}

/// Writes how the variant for unknown names is made.
fn other(variant: &Variant) -> TokenStream {
    let ident = &variant.ident;
    let ty = variant.body.fields.first().map(|field| site(&field.ty));
    let make = quote_spanned!(ty.unwrap_or_else(|| site(ident))=> Self::#ident(__unknown));
    quote! {
        const OTHER: ::core::option::Option<fn(__p::UnknownVariant) -> Self> =
            ::core::option::Option::Some(|__unknown: __p::UnknownVariant| #make);
    }
}

/// Writes a variant's table, and the expression that reads it.
fn variant(message: &Message, variant: &Variant, index: usize) -> (TokenStream, TokenStream) {
    let (enum_ident, ident) = (&message.ident, &variant.ident);
    let path = quote!(#enum_ident::#ident);
    let body = &variant.body;
    let (kind, read) = match body.style {
        // The only field may be skipped.
        Style::Newtype if body.read().next().is_some() => ("newtype", quote!(newtype)),
        Style::Newtype | Style::Unit => {
            let members = body.fields.iter().map(|field| &field.member);
            let values = body.fields.iter().map(|field| made_up(message, field));
            let read = quote! {{
                __p::Content::unit(__content, __fds)?;
                ::core::result::Result::Ok(#path { #(#members: #values,)* })
            }};
            return (TokenStream::new(), read);
        }
        Style::Tuple => ("tuple", quote!(members)),
        Style::Named => ("struct", quote!(members)),
    };
    let name = format!("{kind} variant {}::{ident}", message.rust_name());
    let table_ident = format_ident!("__Members{index}");
    let table = Table::new(message, body, table_ident, expecting(message, name));
    let arguments = table.arguments();
    let read = quote!(__p::Content::#read::<#arguments>(__content, __fds));
    (table.of_message(&path), read)
}

/// Writes the table of a method's arguments, whose value is a tuple: the struct, and its `impl Members`.
pub(crate) fn arguments(service: &Service, method: &Method) -> [TokenStream; 2] {
    let message = &method.received(service);
    let Shape::Struct(body) = &message.shape else {
        return Default::default();
    };
    let mut table = Table::new(message, body, message.ident.clone(), method.wire_name());
    table.of_method = true;
    let (params, _, _) = message.generics.split_for_impl();
    let types = body.fields.iter().map(|field| &field.ty);
    let values = body.fields.iter().map(|field| table.value(field));
    let with_text: Generics = syn::parse_quote!(<'__de>);
    let ident = &table.ident;
    let whole = quote!(#ident #params);
    let (types, values) = (quote!((#(#types,)*)), quote!((#(#values,)*)));
    [
        table.definition(&message.generics, &TokenStream::new()),
        table.implementation(&with_text, &whole, [&types, &values]),
    ]
}

/// The table that the members of a struct or variant are read into.
struct Table<'m> {
    message: &'m Message,
    body: &'m Body,
    ident: Ident,
    expecting: String,
    /// The members are a method's arguments.
    of_method: bool,
}

impl<'m> Table<'m> {
    fn new(message: &'m Message, body: &'m Body, ident: Ident, expecting: String) -> Self {
        Self {
            message,
            body,
            ident,
            expecting,
            of_method: false,
        }
    }

    /// The table's type, with its parameters.
    fn arguments(&self) -> TokenStream {
        let generics = generics::unpack(self.message);
        let (_, arguments, _) = generics.split_for_impl();
        let ident = &self.ident;
        quote!(#ident #arguments)
    }

    /// Writes the table of a struct or variant that is at `path`.
    fn of_message(&self, path: &TokenStream) -> TokenStream {
        let message = self.message;
        let (generics, whole) = (generics::unpack(message), message.whole());
        let of = quote!(__of: ::core::marker::PhantomData<(&'__de (), #whole)>,);
        let fields = &self.body.fields;
        let members = fields.iter().map(|field| &field.member);
        let values = fields.iter().map(|field| self.value(field));
        let mut value = quote!(#path { #(#members: #values,)* });
        if let Some((_, default)) = &message.attrs.default {
            let make = made(default);
            value = quote!({ let __default: #whole = #make; #value });
        }
        let definition = self.definition(&generics, &of);
        let implementation = self.implementation(&generics, &self.arguments(), [&whole, &value]);
        quote!(#definition #implementation)
    }

    fn locals(&self) -> Vec<&Ident> {
        self.body.read().map(|field| &field.local).collect()
    }

    /// Writes the type with an `Option` for each member that is read.
    fn definition(&self, generics: &Generics, of: &TokenStream) -> TokenStream {
        let (ident, locals) = (&self.ident, self.locals());
        let types = self.body.read().map(|field| &field.ty);
        let (params, _, clause) = generics.split_for_impl();
        quote! {
            struct #ident #params #clause {
                #(#locals: ::core::option::Option<#types>,)*
                #of
            }
        }
    }

    /// Writes `impl Members` for the table, whose members become `value`, of type `ty`.
    fn implementation(
        &self,
        generics: &Generics,
        table: &TokenStream,
        [ty, value]: [&TokenStream; 2],
    ) -> TokenStream {
        let (params, _, clause) = generics.split_for_impl();
        let rules = self.rules();
        let named = self.body.style == Style::Named;
        let of = (!self.of_method).then(|| quote!(__of: ::core::marker::PhantomData,));
        let find = find(self.body.read().filter(|_| named).map(|field| &field.names));
        let locals = self.locals();
        let indices = 0..locals.len();
        let is_read = quote!(#(#indices => ::core::option::Option::is_some(&self.#locals),)*);
        let reads = self.body.read().enumerate().map(|(index, field)| {
            let (local, read) = (&field.local, read(field));
            quote!(#index => self.#local = ::core::option::Option::Some(#read),)
        });
        quote! {
            #[automatically_derived]
            impl #params __p::Members<'__de> for #table #clause {
                type Value = #ty;
                const RULES: __p::MemberRules = #rules;

                fn new() -> Self {
                    Self { #(#locals: ::core::option::Option::None,)* #of }
                }

                #find

                fn is_read(&self, __index: usize) -> bool {
                    match __index { #is_read _ => false }
                }

                fn read<__D: __s::Deserializer<'__de>>(
                    &mut self,
                    __index: usize,
                    __fds: &__p::Unpacker,
                    __from: __D,
                ) -> ::core::result::Result<(), __D::Error> {
                    match __index { #(#reads)* _ => {} }
                    ::core::result::Result::Ok(())
                }

                fn finish<__E: __s::de::Error>(
                    self,
                    __absence: __p::Absence,
                ) -> ::core::result::Result<Self::Value, __E> {
                    ::core::result::Result::Ok(#value)
                }
            }
        }
    }

    /// Writes the members' names, and what is refused when they are read.
    fn rules(&self) -> TokenStream {
        let (attrs, expecting) = (&self.message.attrs, &self.expecting);
        let fields: Vec<_> = self.body.read().collect();
        let names: Vec<_> = fields.iter().map(|field| &field.names.de).collect();
        let known: Vec<_> = fields.iter().flat_map(|field| &field.names.known).collect();
        let (named, strict) = (self.body.style == Style::Named, attrs.strict.is_some());
        let known = (named && known != names).then(|| quote!(known: &[#(#known),*],));
        let strict = strict || attrs.reply.is_some();
        let kind =
            (!self.of_method).then(|| quote!(named: #named, strict: #strict, arguments: false,));
        let sensitive = self.body.is_sensitive().then(|| {
            let of = if self.of_method {
                "the arguments of "
            } else {
                ""
            };
            let expected = format!("$jsoncomm::sensitive {of}{expecting}");
            quote!(sensitive: #expected,)
        });
        quote! {
            __p::MemberRules {
                expecting: #expecting,
                names: &[#(#names),*],
                #known #kind #sensitive
                ..__p::MemberRules::ARGUMENTS
            }
        }
    }

    /// Writes the value of one member: the one that was read, or the one that replaces it when it is absent.
    fn value(&self, field: &Field) -> TokenStream {
        let (attrs, local, name, ty) = (&field.attrs, &field.local, &field.names.de, &field.ty);
        let made_up = made_up(self.message, field);
        if attrs.skip_de {
            return made_up;
        }
        if attrs.default.is_some() {
            return quote!(::core::option::Option::unwrap_or_else(self.#local, || #made_up));
        }
        if self.message.attrs.default.is_some() {
            return quote!(::core::option::Option::unwrap_or(self.#local, #made_up));
        }
        let absent = if attrs.with.de.is_some() || field.borrowed_cow().is_some() {
            quote!(::core::option::Option::None)
        } else if attrs.fd.is_some() {
            quote_spanned!(site(ty)=> <#ty as __p::UnpackPart<'__de>>::absent_part())
        } else {
            quote_spanned!(site(ty)=> (&&&__p::probe::<#ty>()).absent_field())
        };
        quote!(__absence.or(self.#local, || #absent, #name)?)
    }
}

/// Writes the function that finds a member or variant by its name.
fn find<'a>(all: impl Iterator<Item = &'a Names>) -> TokenStream {
    let arms = all.enumerate().map(|(index, names)| {
        let known = names.known.iter();
        quote!(#(#known)|* => ::core::option::Option::Some(#index),)
    });
    quote! {
        fn find(__name: &str) -> ::core::option::Option<usize> {
            match __name { #(#arms)* _ => ::core::option::Option::None }
        }
    }
}

/// Writes the expression that reads a field.
fn read(field: &Field) -> TokenStream {
    let ty = &field.ty;
    let fd = field.attrs.fd.is_some();
    let span = field.attrs.with.de.as_ref().map_or_else(|| site(ty), site);
    let read = match (&field.attrs.with.de, field.borrowed_cow()) {
        (Some(function), _) => quote_spanned!(span=> __p::whole(#function(__from))),
        (None, Some(syn::Type::Slice(_))) => quote!(__p::borrow_cow_bytes(__from)),
        (None, Some(_)) => quote!(__p::borrow_cow_str(__from)),
        (None, None) if fd => {
            let read =
                quote_spanned!(span=> <#ty as __p::UnpackPart<'__de>>::unpack_part(__fds, __from));
            match field.attrs.kinds.value() {
                Some(kind) => quote_spanned!(span=> __fds.of_kind(const { #kind }, || #read)),
                None => read,
            }
        }
        (None, None) => quote_spanned! {span=>
            (&&&__p::probe::<#ty>()).read_field(__fds, __from)
        },
    };
    if field.is_sensitive() {
        quote_spanned!(span=> __fds.sensitive(#read)?)
    } else {
        quote_spanned!(span=> #read?)
    }
}

/// Writes the value of a member that was not read.
fn made_up(message: &Message, field: &Field) -> TokenStream {
    let member = &field.member;
    match (&field.attrs.default, &message.attrs.default) {
        (None, Some(_)) => quote!(__default.#member),
        (default, _) => made(default.as_ref().unwrap_or(&DefaultValue::Trait)),
    }
}

/// Writes a default value.
fn made(default: &DefaultValue) -> TokenStream {
    match default {
        DefaultValue::Path(path) => quote_spanned!(site(path)=> #path()),
        DefaultValue::Trait => quote!(::core::default::Default::default()),
    }
}
