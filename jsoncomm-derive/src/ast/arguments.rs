//! A method's arguments as messages: as the stub sends them, as the handler receives them, and as they are described.

use super::service::{Argument, ArgumentKind, FdKind, Method, Service};
use super::types::{is_named, lifetimes};
use super::{Body, Field, Message, Names, Shape, Style};
use crate::attr::{Both, Case, Docs, TypeAttrs};
use proc_macro2::Ident;
use quote::format_ident;
use std::collections::BTreeSet;
use syn::{Lifetime, Member, Type, parse_quote};

impl Method {
    /// The name of the struct with the arguments as the stub sends them.
    pub(crate) fn sent_ident(&self) -> Ident {
        format_ident!("__{}_sent", self.signature.ident)
    }

    /// The name of the table that the arguments are read into.
    pub(crate) fn received_ident(&self) -> Ident {
        format_ident!("__{}_received", self.signature.ident)
    }

    /// The arguments as the stub sends them: whatever can be lent is.
    pub(crate) fn sent(&self, service: &Service) -> Message {
        self.message(service, self.sent_ident(), lent)
    }

    /// The arguments as they are read for the handler.
    pub(crate) fn received(&self, service: &Service) -> Message {
        self.message(service, self.received_ident(), owned)
    }

    /// The arguments with the types that a description shows: they hold the same JSON, and are owned.
    pub(crate) fn described(&self, service: &Service) -> Message {
        let mut message = self.message(service, self.received_ident(), described);
        message.attrs.schema.clone_from(&service.attrs.schema);
        message
    }

    fn message(&self, service: &Service, ident: Ident, ty: fn(&Argument) -> Type) -> Message {
        let types: Vec<_> = self.arguments.iter().map(ty).collect();
        let lifetimes = types.iter().flat_map(lifetimes);
        let ours: BTreeSet<_> = lifetimes.filter(is_ours).collect();
        let ours = ours.iter();
        let arguments = self.arguments.iter().zip(types).enumerate();
        let fields = arguments.map(|(index, (argument, ty))| {
            let (ident, attrs, cases) = (&argument.ident, argument.attrs.clone(), Both::default());
            Field {
                member: Member::Named(ident.clone()),
                local: format_ident!("__f{index}"),
                ty,
                docs: Docs::default(),
                names: Names::new(ident, &attrs.rename, &attrs.aliases, &cases, Case::field),
                attrs,
                borrowed: BTreeSet::new(),
            }
        });
        let body = Body {
            style: Style::Named,
            fields: fields.collect(),
        };
        let attrs = TypeAttrs {
            library: service.attrs.library.clone(),
            ..TypeAttrs::default()
        };
        Message {
            name: self.wire_name(),
            ident,
            generics: parse_quote!(<#(#ours),*>),
            docs: Docs::default(),
            allowed: Vec::new(),
            deprecated: None,
            attrs,
            shape: Shape::Struct(body),
        }
    }
}

fn is_ours(lifetime: &Lifetime) -> bool {
    lifetime.ident == "__lent" || lifetime.ident == "__de"
}

/// The type that an argument is sent as; `'__lent` is the lifetime of what the stub's caller lends.
fn lent(argument: &Argument) -> Type {
    let ty = &argument.ty;
    match (argument.fd_kind(), argument.kind, ty) {
        (Some(FdKind::One), ..) => parse_quote!(::std::os::fd::BorrowedFd<'__lent>),
        (Some(FdKind::Option), ..) => {
            parse_quote!(::core::option::Option<::std::os::fd::BorrowedFd<'__lent>>)
        }
        (Some(FdKind::Vec), ..) => parse_quote!(&'__lent [::std::os::fd::BorrowedFd<'__lent>]),
        (Some(FdKind::Message), ..) => parse_quote!(&'__lent #ty),
        (None, ArgumentKind::OptionStr, _) => {
            parse_quote!(::core::option::Option<&'__lent ::core::primitive::str>)
        }
        (None, _, Type::Reference(reference)) => {
            let mut reference = reference.clone();
            reference.lifetime = Some(parse_quote!('__lent));
            Type::Reference(reference)
        }
        (None, ..) => ty.clone(),
    }
}

/// The type that an argument is decoded into; `'__de` is the lifetime of the text that it is read from.
fn owned(argument: &Argument) -> Type {
    match (argument.kind, referred(&argument.ty)) {
        (ArgumentKind::Str, _) => parse_quote!(__p::Text<'__de>),
        (ArgumentKind::OptionStr, _) => parse_quote!(::core::option::Option<__p::Text<'__de>>),
        (ArgumentKind::Slice, elem) if is_number(elem) => parse_quote!(__p::Numbers<#elem>),
        _ => described(argument),
    }
}

/// The type that an argument has in a description.
fn described(argument: &Argument) -> Type {
    match (argument.kind, referred(&argument.ty)) {
        (ArgumentKind::Str, _) => parse_quote!(::std::string::String),
        (ArgumentKind::OptionStr, _) => {
            parse_quote!(::core::option::Option<::std::string::String>)
        }
        (ArgumentKind::Path, _) => parse_quote!(::std::path::PathBuf),
        (ArgumentKind::Slice, elem) => parse_quote!(::std::vec::Vec<#elem>),
        (_, ty) => ty.clone(),
    }
}

/// Returns the type behind a reference, or that of a slice's elements, or the type itself.
fn referred(ty: &Type) -> &Type {
    match ty {
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(slice) => &slice.elem,
            elem => elem,
        },
        ty => ty,
    }
}

/// Returns true if a type is written like one of the language's numbers.
fn is_number(ty: &Type) -> bool {
    const NUMBERS: &str = "u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64";
    NUMBERS.split(' ').any(|name| is_named(ty, name))
}
