//! A method's arguments as messages: as the stub sends them, as the handler receives them, and as they are described.

use super::service::{Argument, ArgumentKind, Method, Service};
use super::types::{argument_of, is_number};
use super::{Body, Field, Message, Names, Shape, Style};
use crate::attr::{Both, Case, Docs, TypeAttrs};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeSet;
use syn::{Generics, Member, Type, parse_quote};

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
        let lifetime = quote!('__lent);
        let sent = |argument: &Argument| argument.sent(&lifetime);
        let mut message = self.message(service, self.sent_ident(), sent);
        if let Shape::Struct(body) = &mut message.shape {
            for (argument, field) in self.arguments.iter().zip(&mut body.fields) {
                if argument.may_be_left_out() {
                    field.attrs.skip_if = Some(parse_quote!(::core::option::Option::is_none));
                }
            }
        }
        let mut kinds = self.arguments.iter().map(|argument| argument.kind);
        if kinds.any(|kind| kind != ArgumentKind::Copied) {
            message.generics = parse_quote!(<#lifetime>);
        }
        message
    }

    /// The arguments as they are read for the handler.
    pub(crate) fn received(&self, service: &Service) -> Message {
        let received = |argument: &Argument| (argument.received(), false);
        let mut message = self.message(service, self.received_ident(), received);
        let mut borrowed = self.arguments.iter().filter(|one| one.is_borrowed());
        let text = [ArgumentKind::Text, ArgumentKind::OptionText];
        if borrowed.any(|argument| text.contains(&argument.kind)) {
            message.generics = parse_quote!(<'__de>);
        }
        message
    }

    /// The arguments with the types that a description shows: they hold the same JSON, and are owned.
    pub(crate) fn described(&self, service: &Service) -> Message {
        let described = |argument: &Argument| (argument.described(), false);
        let mut message = self.message(service, self.received_ident(), described);
        message.attrs.schema.clone_from(&service.attrs.schema);
        message
    }

    /// Returns the arguments as a message: each is of the type that `of` returns, or a reference to it.
    fn message(
        &self,
        service: &Service,
        ident: Ident,
        of: impl Fn(&Argument) -> (Type, bool),
    ) -> Message {
        let arguments = self.arguments.iter().enumerate();
        let fields = arguments.map(|(index, argument)| {
            let (ident, attrs, cases) = (&argument.ident, argument.attrs.clone(), Both::default());
            let (ty, lent) = of(argument);
            Field {
                member: Member::Named(ident.clone()),
                local: format_ident!("__f{index}"),
                ty,
                lent,
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
            generics: Generics::default(),
            docs: Docs::default(),
            allowed: Vec::new(),
            deprecated: None,
            attrs,
            shape: Shape::Struct(body),
        }
    }
}

impl Argument {
    /// Returns true if the stub leaves the argument out where it is `None`. So an older server, which does not have it, is
    /// called as before.
    fn may_be_left_out(&self) -> bool {
        let attrs = &self.attrs;
        let as_it_is = attrs.with_path.is_some() || attrs.skip_if.is_some();
        argument_of(&self.ty, "Option").is_some() && attrs.default.is_none() && !as_it_is
    }

    /// Returns the type that the stub sends, and whether it sends a reference to one. `lifetime` is that of what the
    /// stub's caller lends.
    pub(crate) fn sent(&self, lifetime: &TokenStream) -> (Type, bool) {
        let option = quote!(::core::option::Option);
        let fd = quote!(::std::os::fd::BorrowedFd<#lifetime>);
        let content = self.content();
        match self.kind {
            ArgumentKind::Copied => (content.clone(), false),
            ArgumentKind::OptionText => (
                parse_quote!(#option<&#lifetime ::core::primitive::str>),
                false,
            ),
            ArgumentKind::Fd => (parse_quote!(#fd), false),
            ArgumentKind::OptionFd => (parse_quote!(#option<#fd>), false),
            ArgumentKind::Fds => (parse_quote!([#fd]), true),
            ArgumentKind::Text => (parse_quote!(::core::primitive::str), true),
            ArgumentKind::Path => (parse_quote!(::std::path::Path), true),
            ArgumentKind::Slice => (parse_quote!([#content]), true),
            ArgumentKind::FdMessage | ArgumentKind::Other => (content.clone(), true),
        }
    }

    /// Returns the type that the argument is decoded into; `'__de` is the lifetime of the text that it is read from.
    fn received(&self) -> Type {
        let content = self.content();
        match self.kind {
            ArgumentKind::Text if self.is_borrowed() => parse_quote!(__p::Text<'__de>),
            ArgumentKind::OptionText if self.is_borrowed() => {
                parse_quote!(::core::option::Option<__p::Text<'__de>>)
            }
            ArgumentKind::Slice if self.is_borrowed() && is_number(content) => {
                parse_quote!(__p::Numbers<#content>)
            }
            _ => self.described(),
        }
    }

    /// Returns the type that the argument has in a description.
    fn described(&self) -> Type {
        let content = self.content();
        match self.kind {
            _ if !self.is_borrowed() => self.ty.clone(),
            ArgumentKind::OptionText => {
                parse_quote!(::core::option::Option<::std::string::String>)
            }
            ArgumentKind::Path => parse_quote!(::std::path::PathBuf),
            ArgumentKind::Slice => parse_quote!(::std::vec::Vec<#content>),
            _ => content.clone(),
        }
    }

    /// Returns the type behind a reference, or the type itself; of a list, that of the elements.
    fn content(&self) -> &Type {
        let ty = match &self.ty {
            Type::Reference(reference) => &*reference.elem,
            ty => ty,
        };
        match ty {
            Type::Slice(slice) => &slice.elem,
            ty if self.kind == ArgumentKind::Slice => argument_of(ty, "Vec").unwrap_or(ty),
            ty => ty,
        }
    }
}
