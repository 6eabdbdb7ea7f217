//! What a type looks like on the wire, as constants: `Pack::shape`, and `impl Describe` for services and requests.

use super::implementation;
use crate::ast::service::{Method, Service};
use crate::ast::{Body, Field, Message, Names, Shape, Style, Variant};
use crate::attr::{self, Docs};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// Writes `Pack::shape`.
pub(crate) fn shape(message: &Message) -> TokenStream {
    let attrs = &message.attrs;
    let shape = match (&attrs.delegate, &attrs.schema) {
        (Some(_), None) => return TokenStream::new(),
        (Some(_), Some(_)) => quote!(Schema(__p::Schema::of::<Self>())),
        (None, _) => definition(message),
    };
    quote!(fn shape() -> __p::Shape { __p::Shape::#shape })
}

fn definition(message: &Message) -> TokenStream {
    let (attrs, name, docs) = (&message.attrs, message.rust_name(), &message.docs);
    let form = match &message.shape {
        Shape::Struct(body) => form(message, body),
        Shape::Enum(variants) => {
            let variants = variants.iter().enumerate();
            let all = variants.map(|(index, each)| variant(message, each, index));
            let tag = match (&attrs.tag, &attrs.content) {
                (Some(tag), Some(content)) => quote!(Some([#tag, #content])),
                _ => quote!(None),
            };
            quote!(__p::Form::Variants(const { &[#(#all)*] }, ::core::option::Option::#tag))
        }
    };
    quote! {
        Defined(const { &__p::Definition::new(::core::any::type_name::<Self>, #name, #docs, #form) })
    }
}

/// Describes a service.
pub(crate) fn service(service: &Service) -> TokenStream {
    let (ident, attrs) = (&service.item.ident, &service.item.attrs);
    let methods = service.methods.iter();
    let methods = methods.map(|method| self::method(service, method));
    let (name, docs, methods) = (service.name(), Docs::from_syn(attrs), quote!(#(#methods),*));
    let version = service.attrs.version.iter();
    let version = quote!(#(.of_version(#version))*);
    let description = description(&name, &docs, &methods, attr::deprecated(attrs), &version);
    quote! {
        #[automatically_derived]
        impl __p::Describe for dyn #ident { #description }
    }
}

/// Describes a method of a trait.
fn method(service: &Service, method: &Method) -> TokenStream {
    let arguments = method.described(service);
    let schema = arguments.attrs.schema.is_some();
    let bodies = arguments.bodies();
    let fields = bodies.iter().map(|(body, _)| fields(&arguments, body));
    let (cfgs, name) = (&method.cfgs, method.wire_name());
    let docs = Docs::from_syn(&method.repeated);
    let mut described = quote!(__p::Method::new(#name, #docs, &[#(#fields)*]));
    if let (None, Some(ty)) = (&method.attrs.oneway, &method.output) {
        let [value, error] = ["Value", "Error"].map(|name| {
            let described = any_type(schema, &super::service::outcome(ty, name));
            super::located_at(super::site(ty), described)
        });
        let kind = super::service::outcome(ty, "KIND");
        described = quote!(#described.replying(#kind, #value, #error));
    }
    let aliases = known_as(method.attrs.aliases.iter());
    let deprecated = deprecated(attr::deprecated(&method.repeated));
    let since = method.attrs.since.iter();
    quote!(#(#cfgs)* #described #aliases #deprecated #(.added_in(#since))*)
}

/// Describes an enum of requests.
pub(crate) fn requests(message: &Message, reply: &TokenStream, error: &TokenStream) -> TokenStream {
    let schema = message.attrs.schema.is_some();
    let methods = message.variants().iter().map(|variant| {
        let (name, docs) = (message.method(variant), &variant.docs);
        let fields = fields(message, &variant.body);
        let (value, of_error) = (any_type(schema, reply), any_type(schema, error));
        quote! {
            __p::Method::new(#name, #docs, &[#fields])
                .replying(
                    __p::ReplyKind { stream: false, codes: <#error as __p::Pack>::CODES },
                    #value,
                    #of_error,
                )
        }
    });
    let (name, methods) = (message.service(), quote!(#(#methods),*));
    let deprecated = message.deprecated.clone();
    let none = TokenStream::new();
    let description = description(&name, &message.docs, &methods, deprecated, &none);
    let of = quote!(__p::Describe);
    implementation(message, &of, &message.generics, &description)
}

fn description(
    name: &str,
    docs: &Docs,
    methods: &TokenStream,
    deprecation: Option<String>,
    version: &TokenStream,
) -> TokenStream {
    let deprecated = deprecated(deprecation);
    quote! {
        const DESCRIPTION: __p::Description = __p::Description::new(
            #name, #docs, ::core::option_env!("CARGO_PKG_VERSION"), &[#methods],
        ) #deprecated #version;
    }
}

/// Adds the older names, if there are any.
fn known_as(aliases: impl Iterator<Item = impl ToTokens>) -> Option<TokenStream> {
    let mut aliases = aliases.peekable();
    aliases.peek()?;
    Some(quote!(.known_as(&[#(#aliases),*])))
}

fn deprecated(note: Option<String>) -> Option<TokenStream> {
    note.map(|note| quote!(.deprecated(#note)))
}

/// Writes the form of a struct or variant.
fn form(message: &Message, body: &Body) -> TokenStream {
    let exists = |field: &&Field| !(field.attrs.skip_ser && field.attrs.skip_de);
    match (body.style, body.fields.iter().find(exists)) {
        (Style::Unit, _) | (Style::Newtype, None) => quote!(__p::Form::Unit),
        (Style::Newtype, Some(field)) => {
            let ty = ty(message, field);
            quote!(__p::Form::Whole(#ty))
        }
        (style, _) => {
            let fields = fields(message, body);
            let kind = if style == Style::Named {
                quote!(Members)
            } else {
                quote!(Elements)
            };
            quote!(__p::Form::#kind(const { &[#fields] }))
        }
    }
}

fn variant(message: &Message, variant: &Variant, index: usize) -> TokenStream {
    let (attrs, docs, code) = (&variant.attrs, &variant.docs, super::code(index));
    let form = match attrs.other {
        Some(_) => quote!(__p::Form::Other),
        None => form(message, &variant.body),
    };
    let read = (!attrs.skip_de).then_some(false);
    let written = (!attrs.skip_ser && attrs.other.is_none()).then_some(false);
    by_name(&variant.names, [read, written], |name, unusual| {
        let item = item(name, docs, unusual);
        quote!(__p::Variant::new(#item, #code, #form))
    })
}

/// Writes the fields that are read or written, with a comma after each.
fn fields(message: &Message, body: &Body) -> TokenStream {
    let each = |field: &Field| {
        let (attrs, docs, ty) = (&field.attrs, &field.docs, ty(message, field));
        let defaults = attrs.default.is_some() || message.attrs.default.is_some();
        let read = (!attrs.skip_de).then_some(defaults);
        let written = (!attrs.skip_ser).then_some(attrs.skip_if.is_some());
        by_name(&field.names, [read, written], |name, unusual| {
            let name = if body.style == Style::Named { name } else { "" };
            let item = item(name, docs, unusual);
            quote!(__p::Field::new(#item, #ty))
        })
    };
    body.fields.iter().map(each).collect()
}

/// Writes a field's type, which is unknown if a function of the user reads or writes it.
fn ty(message: &Message, field: &Field) -> TokenStream {
    let (ty, attrs) = (&field.ty, &field.attrs);
    if attrs.with.ser.is_some() || attrs.with.de.is_some() {
        quote!(__p::Type::foreign::<#ty>())
    } else {
        let ty = any_type(message.attrs.schema.is_some(), &quote!(#ty));
        let kind = attrs.kinds.value().map(|kind| quote!(.of_kind(#kind)));
        quote!(#ty #kind)
    }
}

/// Writes any type; with `schema`, its shape has to be known.
fn any_type(schema: bool, ty: &TokenStream) -> TokenStream {
    let probe = if schema { quote!(&&&&) } else { quote!(&&&) };
    quote!(__p::Type::new(|| (#probe __p::probe::<#ty>()).probed()))
}

/// When something is there: `None` is never, and `Some(true)` not always.
type Presence = Option<bool>;

fn presence(of: Presence) -> TokenStream {
    match of {
        None => quote!(__p::Presence::Never),
        Some(true) => quote!(__p::Presence::Maybe),
        Some(false) => quote!(__p::Presence::Always),
    }
}

/// Writes what fields and variants have in common.
fn item(name: &str, docs: &Docs, unusual: Option<TokenStream>) -> TokenStream {
    let usual = quote!(__p::Item::new(#name, #docs));
    unusual.map_or(
        usual.clone(),
        |unusual| quote!(__p::Item { #unusual, ..#usual }),
    )
}

/// Has `new` write something with a name, presence and aliases; once for each of the names that it is read and written by.
fn by_name(
    names: &Names,
    [read, written]: [Presence; 2],
    new: impl Fn(&str, Option<TokenStream>) -> TokenStream,
) -> TokenStream {
    let one = |name: &str, [read, written]: [Presence; 2]| {
        let known = names.known.iter();
        let aliases = known.filter(|known| *known != name && read.is_some());
        let aliases: Vec<_> = aliases.collect();
        let usual = [read, written] == [Some(false); 2] && aliases.is_empty();
        let [read, written] = [read, written].map(presence);
        let unusual = quote!(read: #read, written: #written, aliases: &[#(#aliases),*]);
        let new = new(name, (!usual).then_some(unusual));
        quote!(#new,)
    };
    let together = read.is_some() && names.ser == names.de;
    let as_read = read.map(|_| one(&names.de, [read, written.filter(|_| together)]));
    let as_written = written.filter(|_| !together);
    let as_written = as_written.map(|_| one(&names.ser, [None, written]));
    quote!(#as_read #as_written)
}
