//! What a type looks like on the wire, as constants: `Pack::shape`, and `impl Describe` for services and requests.

use crate::ast::service::{Method, Service};
use crate::ast::{Body, Field, Message, Names, Shape, Style, Variant};
use crate::attr::{self, Docs};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// Writes what `Pack` says of a type's shape.
pub(crate) fn shape(message: &Message) -> TokenStream {
    let p = &message.private();
    match (&message.attrs.delegate, &message.attrs.schema) {
        (None, _) => {}
        (Some(_), None) => return TokenStream::new(),
        (Some(_), Some(_)) => {
            return quote! {
                fn shape() -> #p::Shape {
                    #p::Shape::Schema(#p::Schema::of::<Self>())
                }
            };
        }
    }
    let (name, docs) = (message.rust_name(), &message.docs);
    let form = match &message.shape {
        Shape::Struct(body) => form(message, body),
        Shape::Enum(variants) => {
            let variants = variants.iter().enumerate();
            let all = variants.map(|(index, each)| variant(message, each, index));
            let tag = match (&message.attrs.tag, &message.attrs.content) {
                (Some(tag), Some(content)) => {
                    quote!(::core::option::Option::Some([#tag, #content]))
                }
                _ => quote!(::core::option::Option::None),
            };
            quote!(#p::Form::Variants(const { &[#(#all)*] }, #tag))
        }
    };
    quote! {
        fn shape() -> #p::Shape {
            #p::Shape::Defined(const {
                &#p::Definition::new(::core::any::type_name::<Self>, #name, #docs, #form)
            })
        }
    }
}

/// Describes a service.
pub(crate) fn service(service: &Service, params: &[Option<Message>]) -> TokenStream {
    let p = &service.private();
    let of = &service.item.ident;
    let methods = service.methods.iter().zip(params);
    let methods = methods.map(|(method, params)| {
        let cfgs = &method.cfgs;
        let method = self::method(p, method, params.as_ref());
        quote!(#(#cfgs)* #method)
    });
    let (name, docs) = (&service.name, Docs::from_syn(&service.item.attrs));
    let deprecated = deprecated(attr::deprecated(&service.item.attrs).as_deref());
    description(
        p,
        &quote!(dyn #of),
        name,
        &docs,
        &quote!(#(#methods),*),
        &deprecated,
    )
}

/// Describes a method of a trait.
fn method(p: &TokenStream, method: &Method, params: Option<&Message>) -> TokenStream {
    let (name, docs) = (method.wire_name(), Docs::from_syn(&method.attrs));
    let schema = params.is_some_and(|params| params.attrs.schema.is_some());
    let fields = params.map(|params| match &params.shape {
        Shape::Struct(body) => fields(params, body),
        Shape::Enum(_) => TokenStream::new(),
    });
    let answer = match (&method.oneway, &method.output) {
        (None, syn::ReturnType::Type(_, ty)) => {
            let [value, error, stream] =
                ["Value", "Error", "STREAM"].map(|name| super::service::outcome(p, ty, name));
            let answer = answer(p, schema, &value, &error);
            super::located_at(super::site(ty), quote!(.answering(#stream, #answer)))
        }
        _ => TokenStream::new(),
    };
    let aliases = known_as(method.names.aliases.iter());
    let deprecated = deprecated(attr::deprecated(&method.attrs).as_deref());
    quote!(#p::Method::new(#name, #docs, &[#fields]) #answer #aliases #deprecated)
}

/// Describes an enum of requests.
pub(crate) fn requests(message: &Message, reply: &TokenStream, error: &TokenStream) -> TokenStream {
    let p = &message.private();
    let ident = &message.ident;
    let service = message.attrs.service.as_ref().map(|name| name.value());
    let methods = message.variants().iter().map(|variant| {
        let (name, docs) = (message.method(variant), &variant.docs);
        let fields = fields(message, &variant.body);
        let answer = answer(p, message.attrs.schema.is_some(), reply, error);
        quote!(#p::Method::new(#name, #docs, &[#fields]).answering(false, #answer))
    });
    let (name, methods) = (service.unwrap_or_default(), quote!(#(#methods),*));
    let deprecated = deprecated(message.deprecated.as_deref());
    description(
        p,
        &quote!(#ident),
        &name,
        &message.docs,
        &methods,
        &deprecated,
    )
}

fn description(
    p: &TokenStream,
    of: &TokenStream,
    name: &str,
    docs: &Docs,
    methods: &TokenStream,
    deprecated: &TokenStream,
) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl #p::Describe for #of {
            const DESCRIPTION: #p::Description = #p::Description::new(
                #name, #docs, ::core::option_env!("CARGO_PKG_VERSION"), &[#methods],
            ) #deprecated;
        }
    }
}

/// The types of what a method answers: its value, its error, and the names of that.
fn answer(p: &TokenStream, schema: bool, value: &TokenStream, error: &TokenStream) -> TokenStream {
    let [value, of_error] = [value, error].map(|ty| any_type(p, schema, ty));
    quote!(#value, #of_error, <#error as #p::Pack>::CODES)
}

/// Tells the older names, if there are any.
fn known_as(aliases: impl Iterator<Item = impl ToTokens>) -> Option<TokenStream> {
    let mut aliases = aliases.peekable();
    aliases.peek()?;
    Some(quote!(.known_as(&[#(#aliases),*])))
}

fn deprecated(note: Option<&str>) -> TokenStream {
    note.map(|note| quote!(.deprecated(#note)))
        .unwrap_or_default()
}

/// What a struct or variant is made of.
fn form(message: &Message, body: &Body) -> TokenStream {
    let p = &message.private();
    let there = |field: &&Field| !(field.attrs.skip_ser && field.attrs.skip_de);
    match (body.style, body.fields.iter().find(there)) {
        (Style::Unit, _) | (Style::Newtype, None) => quote!(#p::Form::Unit),
        (Style::Newtype, Some(field)) => {
            let ty = ty(message, field);
            quote!(#p::Form::Whole(#ty))
        }
        (Style::Tuple, _) => {
            let fields = fields(message, body);
            quote!(#p::Form::Elements(const { &[#fields] }))
        }
        (Style::Named, _) => {
            let fields = fields(message, body);
            quote!(#p::Form::Members(const { &[#fields] }))
        }
    }
}

fn variant(message: &Message, variant: &Variant, index: usize) -> TokenStream {
    let p = &message.private();
    let (attrs, docs, code) = (&variant.attrs, &variant.docs, super::code(index));
    let form = match attrs.other {
        Some(_) => quote!(#p::Form::Other),
        None => form(message, &variant.body),
    };
    let read = Presence::of(attrs.skip_de, false);
    let written = Presence::of(attrs.skip_ser || attrs.other.is_some(), false);
    by_name(
        p,
        &variant.names,
        read,
        written,
        |name, presence, aliases| quote!(#p::Variant::new(#name, #code, #docs, #form, #presence) #aliases,),
    )
}

/// The fields that are read or written, with a comma behind each.
fn fields(message: &Message, body: &Body) -> TokenStream {
    let p = &message.private();
    let each = |field: &Field| {
        let (attrs, docs, ty) = (&field.attrs, &field.docs, ty(message, field));
        let defaults = attrs.default.is_some() || message.attrs.default.is_some();
        let read = Presence::of(attrs.skip_de, defaults);
        let written = Presence::of(attrs.skip_ser, attrs.skip_if.is_some());
        let named = body.style == Style::Named;
        by_name(p, &field.names, read, written, |name, presence, aliases| {
            let name = if named { name } else { "" };
            quote!(#p::Field::new(#name, #docs, #ty, #presence) #aliases,)
        })
    };
    body.fields.iter().map(each).collect()
}

/// A field's type. What a function of the user's reads or writes is not known.
fn ty(message: &Message, field: &Field) -> TokenStream {
    let p = &message.private();
    let (ty, attrs) = (&field.ty, &field.attrs);
    if attrs.with.ser.is_some() || attrs.with.de.is_some() {
        quote!(#p::Type::foreign::<#ty>())
    } else {
        any_type(p, message.attrs.schema.is_some(), &quote!(#ty))
    }
}

/// Any type; with `schema` it has to be known.
fn any_type(p: &TokenStream, schema: bool, ty: &TokenStream) -> TokenStream {
    let (scope, probe) = if schema {
        (quote!(schemas), quote!(&&&&))
    } else {
        (quote!(shapes), quote!(&&&))
    };
    quote! {
        #p::Type::new(|| {
            use #p::#scope::*;
            (#probe #p::Probe::<#ty>::new()).probed_shape()
        })
    }
}

/// When something is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    Maybe,
    Never,
}

impl Presence {
    fn of(never: bool, maybe: bool) -> Self {
        match (never, maybe) {
            (true, _) => Self::Never,
            (false, true) => Self::Maybe,
            (false, false) => Self::Always,
        }
    }

    fn written(self, p: &TokenStream) -> TokenStream {
        match self {
            Self::Always => quote!(#p::Presence::Always),
            Self::Maybe => quote!(#p::Presence::Maybe),
            Self::Never => quote!(#p::Presence::Never),
        }
    }
}

/// Writes something by the name that it is read and written by: twice if these are two, not at all if it is neither.
fn by_name(
    p: &TokenStream,
    names: &Names,
    read: Presence,
    written: Presence,
    write: impl Fn(&str, TokenStream, Option<TokenStream>) -> TokenStream,
) -> TokenStream {
    use Presence::Never;
    let one = |name: &str, read: Presence, written: Presence| {
        let others = names.known.iter().filter(|known| *known != name);
        let aliases = match read {
            Never => None,
            _ => known_as(others),
        };
        let (read, written) = (read.written(p), written.written(p));
        write(name, quote!([#read, #written]), aliases)
    };
    match (read, written) {
        (Never, Never) => TokenStream::new(),
        (Never, _) => one(&names.ser, read, written),
        (_, Never) => one(&names.de, read, written),
        _ if names.ser == names.de => one(&names.ser, read, written),
        _ => {
            let (read, written) = (one(&names.de, read, Never), one(&names.ser, Never, written));
            quote!(#read #written)
        }
    }
}
