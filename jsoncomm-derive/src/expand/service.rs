//! The client stub and the dispatcher that `#[service]` adds to its trait.
//!
//! A method's arguments are sent from a struct of values that the stub's caller lends, and read into a table for the
//! handler. The types in both are concrete, so the library can select how each is written and read.

use super::{describe, pack, unpack};
use crate::ast::service::{Argument, ArgumentKind, Method, Service};
use crate::ast::types::{replace_self, std_name, type_arguments};
use crate::check;
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::BTreeMap;
use syn::ext::IdentExt;
use syn::{Index, ItemTrait, Type, parse_quote};

/// Expands `#[service]`.
pub(crate) fn service(options: TokenStream, item: ItemTrait) -> syn::Result<TokenStream> {
    let cx = Ctxt::new();
    let service = Service::from_syn(&cx, options, item);
    check::service::service(&cx, &service);
    cx.finish()?;
    let service = &service;
    let (item, allowed) = (&service.item, &service.allowed);
    let deprecated = service.allow_deprecated();
    let names = super::names(&service.attrs.library, &service.attrs.schema);
    let stub = stub(service);
    let methods = service.methods.iter();
    let arguments = methods.map(|method| arguments(service, method));
    let calls = calls(service);
    let passed = passed(service);
    let dispatcher = dispatcher(service);
    let description = describe::service(service);
    let generated = super::generated(quote! {
        #stub
        #[doc(hidden)]
        #(#allowed)*
        #deprecated
        const _: () = {
            #names
            #(#arguments)*
            #calls
            #passed
            #dispatcher
            #description
        };
    });
    Ok(quote!(#item #generated))
}

/// Writes the types of a method's arguments: as they are sent, and as they are received.
fn arguments(service: &Service, method: &Method) -> TokenStream {
    if method.arguments.is_empty() {
        return TokenStream::new();
    }
    let cfgs = &method.cfgs;
    let sent = method.sent(service);
    let (ident, generics) = (&sent.ident, &sent.generics);
    let fields = sent.fields().map(|field| {
        let (member, ty) = (&field.member, &field.ty);
        let reference = field.lent.then(|| quote!(&'__lent));
        quote!(#member: #reference #ty)
    });
    let pack = pack::message(&sent, &TokenStream::new());
    let [received, members] = unpack::arguments(service, method);
    quote! {
        #(#cfgs)* struct #ident #generics { #(#fields),* }
        #(#cfgs)* #pack
        #(#cfgs)* #received
        #(#cfgs)* #members
    }
}

/// Writes the type of the client stub.
fn stub(service: &Service) -> TokenStream {
    let library = super::library(&service.attrs.library);
    let (vis, of) = (&service.item.vis, &service.item.ident);
    let (allowed, deprecated) = (&service.allowed, &service.deprecated);
    let ident = stub_ident(service);
    let doc = format!(
        "Calls the methods of [`{of}`] on a server. Each waits for its reply until the connection's deadline.\n\n# \
         Errors\n\nA call ends in the service's own error, or in another variant of `CallError`; a `#[oneway]` method \
         returns when the kernel has the call."
    );
    quote! {
        #[doc = #doc]
        #(#deprecated)*
        #(#allowed)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #ident<M = #library::Blocking>(#library::Stub<M>);
    }
}

fn stub_ident(service: &Service) -> Ident {
    format_ident!("{}Client", service.item.ident)
}

/// Writes the stub's methods.
fn calls(service: &Service) -> TokenStream {
    let (vis, ident) = (&service.item.vis, &stub_ident(service));
    let new = unless_taken(service, "new").map(|unless| {
        quote! {
            #unless
            impl #ident {
                /// Returns a stub that calls through `connection` and waits for each reply.
                #vis fn new(connection: __p::Connection) -> Self { ::core::convert::From::from(connection) }
            }
        }
    });
    let start = unless_taken(service, "start").map(|unless| {
        quote! {
            /// Returns a stub whose methods only start their calls, and return a `PendingCall` to wait for.
            #unless
            #vis fn start(&self) -> #ident<__p::Started> { #ident(self.0.start()) }
        }
    });
    let free = free_names(service);
    let methods = service.methods.iter();
    let methods = methods.map(|method| call(service, method));
    quote! {
        const _: () = {
            #free
            #new
            impl<__M: __p::CallMode> #ident<__M> {
                #start
                #(#methods)*
            }
            #[automatically_derived]
            impl<__M> ::core::convert::From<__p::Connection> for #ident<__M> {
                fn from(connection: __p::Connection) -> Self { Self(::core::convert::From::from(connection)) }
            }
            #[automatically_derived]
            impl<__M> ::core::convert::AsRef<__p::Connection> for #ident<__M> {
                fn as_ref(&self) -> &__p::Connection { &self.0 }
            }
        };
    }
}

/// Writes how the stub itself is sent and received, as a connection.
fn passed(service: &Service) -> TokenStream {
    let (ident, name) = (&stub_ident(service), service.name());
    quote! {
        #[automatically_derived]
        impl<__M: __p::PassedMode> __p::Pack for #ident<__M> {
            fn pack<'__a, __S: __s::Serializer>(
                &'__a self,
                __fds: &__p::Packer<'__a>,
                __to: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                __p::Pack::pack(&self.0, __fds, __to)
            }

            fn shape() -> __p::Shape { __p::Shape::Endpoint(#name) }
        }

        #[automatically_derived]
        impl<'__de, __M: __p::PassedMode> __p::Unpack<'__de> for #ident<__M> {
            fn unpack<__D: __s::Deserializer<'__de>>(
                __fds: &__p::Unpacker,
                __from: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                __p::Unpack::unpack(__fds, __from).map(Self)
            }
        }
    }
}

/// Functions that hide the program's constants and statics, whatever their names, where the stub's parameters are named:
/// a parameter can hide a function, and not those.
fn free_names(service: &Service) -> TokenStream {
    let arguments = service.methods.iter().flat_map(|method| &method.arguments);
    let named = arguments.map(|argument| (argument.ident.unraw(), argument.ident.clone()));
    let own = Ident::new("connection", Span::call_site());
    let names: BTreeMap<_, _> = named.chain([(own.clone(), own)]).collect();
    let names = names.values();
    quote!(#(fn #names() {})*)
}

/// Returns the condition under which the stub has a function of its own, `new` or `start`: a method with that name takes
/// precedence. `None` if it never has one.
fn unless_taken(service: &Service, name: &str) -> Option<TokenStream> {
    let methods = service.methods.iter();
    let mut unless = TokenStream::new();
    for method in methods.filter(|method| method.signature.ident.unraw() == name) {
        if method.cfgs.is_empty() {
            return None;
        }
        let conditions = method.cfgs.iter();
        let conditions = conditions.filter_map(|cfg| Some(&cfg.meta.require_list().ok()?.tokens));
        unless.extend(quote!(#[cfg(not(all(#(#conditions),*)))]));
    }
    Some(unless)
}

/// Writes a method of the stub.
fn call(service: &Service, method: &Method) -> TokenStream {
    let (vis, ident) = (&service.item.vis, &method.signature.ident);
    let (repeated, cfgs) = (&method.repeated, &method.cfgs);
    let whole = format!("{}.{}", service.name(), method.wire_name());
    let (arguments, values): (Vec<_>, Vec<_>) = method.arguments.iter().map(lend).unzip();
    let names = method.arguments.iter().map(|argument| &argument.ident);
    let sent = if method.arguments.is_empty() {
        quote!(__p::NoArguments)
    } else {
        let ident = method.sent_ident();
        quote!(#ident { #(#names: #values),* })
    };
    let (output, body) = match (&method.attrs.oneway, &method.output) {
        (None, Some(ty)) => {
            let call = outcome(ty, "call");
            let body = quote_spanned!(super::site(ty)=> #call(&self.0, #whole, &#sent));
            (stub_output(ty), body)
        }
        _ => (
            quote!(::core::result::Result<(), __p::CallError>),
            quote!(self.0.notify(#whole, &#sent)),
        ),
    };
    let body = at_output(method, quote!({ #body }));
    quote! {
        #(#repeated)*
        #(#cfgs)*
        #vis fn #ident(&self, #(#arguments),*) -> #output #body
    }
}

/// Writes an item of `MethodReturn` for a return type, at the type's place. Nothing else is required of the type, so there
/// is one error about a type that cannot be returned.
pub(super) fn outcome(ty: &Type, name: &str) -> TokenStream {
    let span = super::site(ty);
    let name = Ident::new(name, span);
    let ty = super::located_at(span, ty.to_token_stream());
    quote_spanned!(span=> <#ty as __p::MethodReturn>::#name)
}

/// Moves tokens to the place of the method's return type.
fn at_output(method: &Method, tokens: TokenStream) -> TokenStream {
    match &method.output {
        Some(ty) => super::located_at(super::site(ty), tokens),
        None => tokens,
    }
}

/// Writes what the stub returns. A `Result`, `Deferred` or `Stream` whose types are written out is shown in the stub's
/// documentation; any other type has its `Stub`.
fn stub_output(ty: &Type) -> TokenStream {
    if let Some(segment) = std_name(ty) {
        match (
            segment.ident.to_string().as_str(),
            &type_arguments(segment)[..],
        ) {
            ("Stream", [value, error]) => {
                return quote! {
                    ::core::result::Result<__p::Items<#value, #error>, __p::CallError<#error>>
                };
            }
            ("Result" | "Deferred", [value, error]) => {
                return quote!(<__M as __p::CallMode>::Output<#value, #error>);
            }
            _ => {}
        }
    }
    let stub = outcome(ty, "Stub");
    quote_spanned!(super::site(ty)=> #stub<__M>)
}

/// Writes an argument of the stub, and the value that is sent, which is lent by what the caller passes.
fn lend(argument: &Argument) -> (TokenStream, TokenStream) {
    let (ident, declared) = (&argument.ident, &argument.ty);
    let (ty, lent) = argument.sent(&quote!('_));
    let (ty, value) = match argument.kind {
        _ if argument.is_borrowed() => (quote!(#declared), quote!(#ident)),
        ArgumentKind::Text | ArgumentKind::Path | ArgumentKind::Slice => (
            quote!(impl ::core::convert::AsRef<#ty>),
            quote!(::core::convert::AsRef::as_ref(&#ident)),
        ),
        ArgumentKind::Other => (
            quote!(impl ::core::borrow::Borrow<#ty>),
            quote!(::core::borrow::Borrow::borrow(&#ident)),
        ),
        ArgumentKind::Fd => (
            quote!(impl ::std::os::fd::AsFd),
            quote!(::std::os::fd::AsFd::as_fd(&#ident)),
        ),
        _ if lent => (quote!(&#ty), quote!(#ident)),
        _ => (quote!(#ty), quote!(#ident)),
    };
    (quote!(#ident: #ty), value)
}

/// Writes the impl that finds a method by its number, decodes its arguments and calls it.
fn dispatcher(service: &Service) -> TokenStream {
    let (of, name) = (&service.item.ident, service.name());
    let methods = service.methods.iter();
    let names = methods.clone().map(|method| {
        let (cfgs, name) = (&method.cfgs, method.wire_name());
        quote!(#(#cfgs)* #name)
    });
    // A method's number is its place in the trait, whether or not those before it are compiled.
    let usual = |method: &Method| method.cfgs.is_empty() && method.attrs.aliases.is_empty();
    let unusual = !service.methods.iter().all(usual);
    let numbers = methods.clone().enumerate().map(|(index, method)| {
        let (cfgs, names) = (&method.cfgs, method.all_names());
        quote!(#(#cfgs)* (#index, &[#(#names),*]))
    });
    let numbers = unusual.then(
        || quote!(const NUMBERS: &'static [(usize, &'static [&'static str])] = &[#(#numbers),*];),
    );
    let arms = methods.clone().enumerate().map(|(index, method)| {
        let (cfgs, reply) = (&method.cfgs, reply(service, method));
        quote!(#(#cfgs)* #index => #reply,)
    });
    let required = methods.flat_map(|method| &method.required);
    let required = required.chain(&service.required);
    let required = required.map(|one| replace_self(one.to_token_stream(), &quote!(__S)));
    let required: Vec<_> = required.collect();
    let clause = (!required.is_empty()).then(|| quote!(where #(#required),*));
    quote! {
        #[automatically_derived]
        impl<__S: #of> __p::Service<__S> for dyn #of #clause {
            const NAME: &'static str = #name;
            const METHODS: &'static [&'static str] = &[#(#names),*];
            #numbers

            fn call(__state: &mut __S, __method: usize, __incoming: __p::Incoming<'_, '_>) {
                match __method {
                    #(#arms)*
                    _ => {}
                }
            }
        }
    }
}

/// Writes the expression that calls a method's handler and replies.
fn reply(service: &Service, method: &Method) -> TokenStream {
    let (of, ident) = (&service.item.ident, &method.signature.ident);
    let received = if method.arguments.is_empty() {
        quote!(__p::NoArguments)
    } else {
        let received = method.received(service);
        let text = received.generics.lifetimes().next().map(|_| quote!(<'_>));
        let ident = received.ident;
        quote!(#ident #text)
    };
    let verb = if method.call { "answer_call" } else { "answer" };
    let call = method.call.then(|| quote!(__call,));
    let context = method.call.then(|| quote!(__call: &mut __p::Call,));
    let values = method.arguments.iter().enumerate();
    let values = values.map(|(index, argument)| value(index, argument));
    let unit = parse_quote!(());
    let verb = outcome(method.output.as_ref().unwrap_or(&unit), verb);
    let reply = quote! {
        #verb::<#received>(__incoming, |#context __params| {
            <__S as #of>::#ident(__state, #call #(#values),*)
        })
    };
    at_output(method, reply)
}

/// Writes an argument as the handler takes it.
fn value(index: usize, argument: &Argument) -> TokenStream {
    let index = Index::from(index);
    match argument.kind {
        _ if !argument.is_borrowed() => quote!(__params.#index),
        ArgumentKind::Text | ArgumentKind::Slice | ArgumentKind::Path => quote!(&*__params.#index),
        ArgumentKind::OptionText => quote!(::core::option::Option::as_deref(&__params.#index)),
        _ => quote!(&__params.#index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Returns the README's service.
    fn readme() -> ItemTrait {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let from = text.find("#[jsoncomm::service").unwrap();
        let item = text.get(from..).unwrap();
        let to = item.find("\n}\n").unwrap() + 2;
        syn::parse_str(item.get(..to).unwrap()).unwrap()
    }

    /// After a change of the generated code, run `SNAPSHOT=overwrite cargo test -p jsoncomm-derive`, and read the diff.
    #[test]
    fn the_generated_code_of_the_readme_matches_the_snapshot() {
        let mut item = readme();
        let options = item
            .attrs
            .remove(0)
            .meta
            .require_list()
            .unwrap()
            .tokens
            .clone();
        let file = syn::parse2(service(options, item).unwrap()).unwrap();
        let text = format!(
            "// What `#[jsoncomm::service]` generates for the README's service. Written by the test in service.rs.\n\n{}",
            prettyplease::unparse(&file)
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/expand/service.snapshot.rs");
        if std::env::var_os("SNAPSHOT").is_some_and(|what| what == "overwrite") {
            std::fs::write(&path, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = text
            .lines()
            .zip(checked_in.lines())
            .find(|(new, old)| new != old);
        assert_eq!(differs, None, "the first line that differs, new and old");
        assert_eq!(text.len(), checked_in.len());
    }
}
