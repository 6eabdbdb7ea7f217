//! `impl Pack`: writes what serde's derive would, and passes the list of descriptors to fields with `#[fd]`.

use super::{generics, implementation, site};
use crate::ast::{Body, Field, Message, Shape, Style, Variant};
use crate::attr::Case;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};

/// Writes the impl.
pub(crate) fn message(message: &Message, shape: &TokenStream) -> TokenStream {
    let body = match &message.shape {
        Shape::Struct(body) => {
            let pattern = body.pattern(|field| !field.attrs.skip_ser);
            let write = structure(message, body, &message.name, false);
            quote!(let &Self #pattern = self; #write)
        }
        Shape::Enum(variants) => by_variant(variants, |variant, index| {
            self::variant(message, variant, index)
        }),
    };
    let generics = generics::pack(message);
    let (pack, code) = (function("pack", &body), code(message));
    let items = quote!(#code #pack #shape);
    let pack = implementation(message, &quote!(__p::Pack), &generics, &items);
    let by_itself = message.attrs.tag.is_some() || message.attrs.reply.is_some();
    let content = by_itself.then(|| content(message));
    quote!(#pack #content)
}

/// Writes the impl that leaves everything to serde.
pub(crate) fn delegate(message: &Message, shape: &TokenStream) -> TokenStream {
    let schematic = message.attrs.schema.iter().map(|_| quote!(__p::Schematic));
    let generics = generics::whole(message, &quote!(__s::Serialize #(+ #schematic)*));
    let mut body = quote!(__s::Serialize::serialize(self, __out));
    if message.is_sensitive() {
        let name = &message.name;
        body = quote!(__p::sensitive(#name, #body));
    }
    let (pack, code) = (function("pack", &body), code(message));
    let items = quote!(#code #pack #shape);
    implementation(message, &quote!(__p::Pack), &generics, &items)
}

/// `impl PackContent`: writes the content of a variant without its name.
fn content(message: &Message) -> TokenStream {
    let body = by_variant(message.variants(), |variant, _| {
        let write = || structure(message, &variant.body, &variant.names.ser, true);
        refused(message, variant).unwrap_or_else(write)
    });
    let generics = generics::pack(message);
    let pack = function("pack_content", &body);
    implementation(message, &quote!(__p::PackContent), &generics, &pack)
}

/// Writes the function that writes.
fn function(name: &str, body: &TokenStream) -> TokenStream {
    let name = format_ident!("{name}");
    quote! {
        fn #name<'__a, __S: __s::Serializer>(
            &'__a self,
            __fds: &__p::Packer<'__a>,
            __out: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            #body
        }
    }
}

/// Writes a `match` with an arm for each variant.
fn by_variant(variants: &[Variant], write: impl Fn(&Variant, usize) -> TokenStream) -> TokenStream {
    if variants.is_empty() {
        return quote!(match *self {});
    }
    let arms = variants.iter().enumerate().map(|(index, variant)| {
        let ident = &variant.ident;
        let pattern = variant.body.pattern(|field| !field.attrs.skip_ser);
        let write = write(variant, index);
        quote!(Self::#ident #pattern => { #write })
    });
    quote!(match *self { #(#arms)* })
}

/// `Pack::code` and its names, for an enum.
fn code(message: &Message) -> Option<TokenStream> {
    let variants = message.variants();
    let (idents, names): (Vec<_>, Vec<_>) =
        variants.iter().map(|v| (&v.ident, &v.names.ser)).unzip();
    let codes = (0..variants.len()).map(super::code);
    (!variants.is_empty()).then(|| {
        quote! {
            const CODES: &'static [&'static str] = &[#(#names),*];

            fn code(&self) -> i64 { match self { #(Self::#idents { .. } => #codes,)* } }
        }
    })
}

/// Writes one variant, tag and all.
fn variant(message: &Message, variant: &Variant, index: usize) -> TokenStream {
    if let Some(refused) = refused(message, variant) {
        return refused;
    }
    let (name, tag) = (&message.name, &variant.names.ser);
    if let (Some(tag_name), Some(content)) = (&message.attrs.tag, &message.attrs.content) {
        let unit = effective(&variant.body) == Style::Unit;
        let len = if unit { 1_usize } else { 2 };
        let held = (!unit).then(|| {
            quote! {
                __s::ser::SerializeStruct::serialize_field(
                    &mut __state, #content, &__p::ContentOf(self, __fds),
                )?;
            }
        });
        return quote! {
            let mut __state = __s::Serializer::serialize_struct(__out, #name, #len)?;
            __s::ser::SerializeStruct::serialize_field(&mut __state, #tag_name, #tag)?;
            #held
            __s::ser::SerializeStruct::end(__state)
        };
    }
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let about = quote!(__out, #name, #index, #tag);
    match effective(&variant.body) {
        Style::Unit => quote!(__s::Serializer::serialize_unit_variant(#about)),
        Style::Newtype => {
            let written = variant.body.written().next();
            let value = written.map(|field| value(message, field, tag));
            quote!(__s::Serializer::serialize_newtype_variant(#about, #value))
        }
        Style::Named => sequence(message, &variant.body, "struct_variant", &about),
        Style::Tuple => sequence(message, &variant.body, "tuple_variant", &about),
    }
}

/// Writes the error for a variant with `skip`, and for the one that is read for unknown names.
fn refused(message: &Message, variant: &Variant) -> Option<TokenStream> {
    let why = match &variant.attrs {
        attrs if attrs.skip_ser => "cannot be serialized",
        attrs if attrs.other.is_some() => "is only read: its descriptors are closed",
        _ => return None,
    };
    let (ty, ident) = (message.rust_name(), &variant.ident);
    let text = format!("the enum variant {ty}::{ident} {why}");
    Some(quote!(::core::result::Result::Err(__s::ser::Error::custom(#text))))
}

/// A newtype whose only field is skipped is a unit.
fn effective(body: &Body) -> Style {
    match body.style {
        Style::Newtype if body.written().next().is_none() => Style::Unit,
        style => style,
    }
}

/// Writes a struct. One without fields is `null`, or an empty object if it is the content of a variant.
fn structure(message: &Message, body: &Body, name: &str, content: bool) -> TokenStream {
    let about = quote!(__out, #name);
    match effective(body) {
        Style::Unit if !content => quote!(__s::Serializer::serialize_unit_struct(#about)),
        Style::Newtype => {
            let written = body.written().map(|field| {
                let value = value(message, field, &message.name);
                quote_spanned!(site(&field.ty)=> __s::Serialize::serialize(#value, __out))
            });
            written.collect()
        }
        Style::Named | Style::Unit => sequence(message, body, "struct", &about),
        Style::Tuple => sequence(message, body, "tuple_struct", &about),
    }
}

/// Begins something, writes its fields one by one, and ends it. `what` is serde's word for it.
fn sequence(message: &Message, body: &Body, what: &str, about: &TokenStream) -> TokenStream {
    let begin = format_ident!("serialize_{what}");
    let state = format_ident!("Serialize{}", Case::Pascal.field(what));
    let written = body.written();
    let fields = written.map(|field| one(message, body.style, field, &state));
    let always = body.written().filter(|field| field.attrs.skip_if.is_none());
    let always = always.count();
    let sometimes = body.written().filter_map(|field| {
        let (test, local) = (field.attrs.skip_if.as_ref()?, &field.local);
        Some(quote!(+ if #test(#local) { 0 } else { 1 }))
    });
    let mutable = body.written().next().map(|_| quote!(mut));
    quote! {
        let #mutable __state = __s::Serializer::#begin(#about, #always #(#sometimes)*)?;
        #(#fields)*
        __s::ser::#state::end(__state)
    }
}

/// Writes one field of a sequence.
fn one(message: &Message, style: Style, field: &Field, state: &Ident) -> TokenStream {
    let value = value(message, field, &field.names.ser);
    let name = (style == Style::Named).then(|| {
        let name = &field.names.ser;
        quote!(#name,)
    });
    let write = quote_spanned! {site(&field.ty)=>
        __s::ser::#state::serialize_field(&mut __state, #name #value)
    };
    let write = quote_spanned!(site(&field.ty)=> #write?;);
    let Some(test) = &field.attrs.skip_if else {
        return write;
    };
    let skip = (style == Style::Named)
        .then(|| quote!(__s::ser::#state::skip_field(&mut __state, #name)?;));
    let local = &field.local;
    quote!(if #test(#local) { #skip } else { #write })
}

/// Writes a field as something that serde can serialize. An error about a sensitive one says no more than `name`.
fn value(message: &Message, field: &Field, name: &str) -> TokenStream {
    let value = serializable(message, field);
    if field.is_sensitive() {
        quote_spanned!(site(&field.ty)=> &__p::Sensitive(#name, #value))
    } else {
        value
    }
}

fn serializable(message: &Message, field: &Field) -> TokenStream {
    let local = field.local_at_type();
    if field.attrs.fd.is_some() {
        let Some(kind) = field.attrs.kinds.value() else {
            return quote_spanned!(site(&field.ty)=> &__p::Packed(#local, __fds));
        };
        let sensitive = field.is_sensitive().then(|| quote!(.sensitive()));
        return quote_spanned! {site(&field.ty)=>
            &__p::OfKind::new(#local, __fds, const { #kind }) #sensitive
        };
    }
    let Some(function) = &field.attrs.with.ser else {
        return selected(field, &local);
    };
    let (whole, ty) = (message.whole(), &field.ty);
    let mut generics = generics::pack(message);
    generics.params.insert(0, syn::parse_quote!('__a));
    let (params, with_arguments, clause) = generics.split_for_impl();
    quote!(&{
        struct __With #params #clause {
            value: &'__a #ty,
            of: ::core::marker::PhantomData<#whole>,
        }
        #[automatically_derived]
        impl #params __s::Serialize for __With #with_arguments #clause {
            fn serialize<__S: __s::Serializer>(
                &self,
                __out: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                #function(self.value, __out)
            }
        }
        __With { value: #local, of: ::core::marker::PhantomData::<#whole> }
    })
}

/// A field without `#[fd]`: the library selects whether serde writes it, or it is a message.
fn selected(field: &Field, local: &Ident) -> TokenStream {
    let ty = &field.ty;
    quote_spanned! {site(ty)=>
        &(&&&__p::probe::<#ty>()).write_field(#local, __fds)
    }
}
