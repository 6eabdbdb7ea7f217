//! Writing: the client stub and the dispatcher that `#[service]` adds to its trait.
//!
//! A method's arguments are two structs, of the same members: what the stub's caller lends is written from the one,
//! what the handler gets is read into the other. Their types are concrete, so that each is written and read as
//! whichever it is.

use super::describe;
use crate::ast::service::{
    Argument, Method, Passing, Service, argument_of, is_descriptor, known_name, option_of,
};
use crate::ast::{self, Message, replace};
use crate::check;
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::BTreeMap;
use syn::ext::IdentExt;
use syn::{
    GenericArgument, ItemTrait, Lifetime, PathArguments, ReturnType, Type, TypeReference,
    parse_quote,
};

/// Expands `#[service]`.
pub(crate) fn service(options: TokenStream, item: ItemTrait) -> syn::Result<TokenStream> {
    let cx = Ctxt::new();
    let service = Service::from_syn(&cx, options, item);
    check::service::service(&cx, &service);
    cx.finish()?;
    let arguments = service
        .methods
        .iter()
        .map(|method| arguments(&service, method))
        .collect::<syn::Result<Vec<_>>>()?;
    let (arguments, shown): (TokenStream, Vec<_>) = arguments.into_iter().unzip();
    let description = describe::service(&service, &shown);
    let item = &service.item;
    let (stub, calls) = stub(&service);
    let dispatcher = dispatcher(&service);
    let (allowed, deprecated) = (&service.allowed, &service.allow_deprecated());
    let generated = super::generated(quote! {
        #stub
        #[doc(hidden)]
        #(#allowed)*
        #deprecated
        const _: () = { #arguments #calls #dispatcher #description };
    });
    Ok(quote!(#item #generated))
}

/// The name of the struct that holds a method's arguments: what is `sent`, or what is `received`.
fn arguments_ident(method: &Method, side: &str) -> Ident {
    format_ident!("__{}_{side}", method.ident)
}

/// The structs of a method's arguments, as messages; and what they look like with the types of the trait.
fn arguments(service: &Service, method: &Method) -> syn::Result<(TokenStream, Option<Message>)> {
    let sent = arguments_struct(service, method, "sent", lent);
    let p = service.private();
    let received = arguments_struct(service, method, "received", |argument| owned(&p, argument));
    let (sent, received) = (syn::parse2(sent)?, syn::parse2(received)?);
    let tokens = [super::sent(&sent)?, super::received(&received)?];
    let cfgs = &method.cfgs;
    let [sent, received] = [sent, received].map(without_attributes);
    let [pack, unpack] = tokens;
    let tokens = quote! {
        #(#cfgs)* #sent
        #(#cfgs)* #received
        #(#cfgs)* #pack
        #(#cfgs)* #unpack
    };
    let shown = arguments_struct(service, method, "received", shown);
    let mut shown = Message::from_syn(&Ctxt::new(), &syn::parse2(shown)?);
    if let Some(shown) = &mut shown {
        shown.attrs.schema.clone_from(&service.schema);
    }
    Ok((tokens, shown))
}

/// The struct of a method's arguments with the types that `ty` makes of theirs.
fn arguments_struct(
    service: &Service,
    method: &Method,
    side: &str,
    ty: impl Fn(&Argument) -> Type,
) -> TokenStream {
    let ident = arguments_ident(method, side);
    let types: Vec<_> = method.arguments.iter().map(ty).collect();
    let fields = method.arguments.iter().zip(&types).map(|(argument, ty)| {
        let (ident, attrs) = (&argument.ident, &argument.attrs);
        let borrow = (borrows(ty, TEXT)).then(|| quote!(#[serde(borrow)]));
        quote!(#borrow #(#attrs)* #ident: #ty)
    });
    let lifetimes = lifetimes(&types);
    let expecting = format!("the arguments of {}", method.wire_name());
    let library = service.library.as_ref().map(|library| {
        let library = quote!(#library).to_string();
        quote!(#[message(crate = #library)])
    });
    quote! {
        #library
        #[serde(deny_unknown_fields, expecting = #expecting)]
        struct #ident #lifetimes { #(#fields),* }
    }
}

/// What remains of a type once its attributes have been read.
fn without_attributes(mut input: syn::DeriveInput) -> syn::DeriveInput {
    input.attrs.clear();
    if let syn::Data::Struct(data) = &mut input.data {
        data.fields.iter_mut().for_each(|field| field.attrs.clear());
    }
    input
}

/// The lifetime of what a stub's caller lends, and that of the text a handler's arguments are read from.
const LENT: &str = "'__lent";
const TEXT: &str = "'__text";

/// The lifetime of that name.
fn lifetime(name: &str) -> Lifetime {
    Lifetime::new(name, Span::call_site())
}

/// The lifetimes of ours that types need, as parameters.
fn lifetimes<'t>(types: impl IntoIterator<Item = &'t Type> + Clone) -> Option<TokenStream> {
    [LENT, TEXT].into_iter().find_map(|name| {
        let needed = types.clone().into_iter().any(|ty| borrows(ty, name));
        let lifetime = lifetime(name);
        needed.then(|| quote!(<#lifetime>))
    })
}

/// Returns true if a type has one of our lifetimes.
fn borrows(ty: &Type, name: &str) -> bool {
    ast::lifetimes(ty.to_token_stream())
        .iter()
        .any(|lifetime| lifetime.to_string() == name)
}

/// The client stub, and the calls it makes.
fn stub(service: &Service) -> (TokenStream, TokenStream) {
    let p = service.private();
    let (vis, of, deprecated) = (&service.item.vis, &service.item.ident, &service.deprecated);
    let allowed = &service.allowed;
    let ident = format_ident!("{of}Client");
    let doc = format!(
        "Calls the methods of [`{of}`] on a server. Each waits for its answer until the connection's \
         deadline.\n\n# Errors\n\nA call ends in the service's own error, or in another variant of `CallError`; a \
         `#[oneway]` method returns when the kernel has the call."
    );
    let stub = quote! {
        #[doc = #doc]
        #(#deprecated)*
        #(#allowed)*
        #vis struct #ident<M = #p::Blocking> {
            connection: #p::Connection,
            mode: ::core::marker::PhantomData<fn() -> M>,
        }
    };
    let methods = service
        .methods
        .iter()
        .map(|method| stub_method(service, method));
    let new = unless_taken(service, "new").map(|unless| {
        quote! {
            #unless
            #[automatically_derived]
            impl #ident {
                /// Makes a stub that calls through `connection` and waits for each answer.
                #vis fn new(connection: #p::Connection) -> Self {
                    ::core::convert::From::from(connection)
                }
            }
        }
    });
    let start = unless_taken(service, "start").map(|unless| {
        quote! {
            /// The same stub, but its methods only start their calls and return a `PendingCall` to wait for.
            #unless
            #vis fn start(&self) -> #ident<#p::Started> {
                ::core::convert::From::from(::core::clone::Clone::clone(&self.connection))
            }
        }
    });
    let free = free_names(service);
    let calls = quote! {
        const _: () = {
        #free
        #new
        #[automatically_derived]
        impl<__M: #p::CallMode> #ident<__M> {
            #start
            #(#methods)*
        }
        #[automatically_derived]
        impl<__M> ::core::convert::From<#p::Connection> for #ident<__M> {
            fn from(connection: #p::Connection) -> Self {
                Self { connection, mode: ::core::marker::PhantomData }
            }
        }
        #[automatically_derived]
        impl<__M> ::core::clone::Clone for #ident<__M> {
            fn clone(&self) -> Self {
                ::core::convert::From::from(::core::clone::Clone::clone(&self.connection))
            }
        }
        #[automatically_derived]
        impl<__M> ::core::fmt::Debug for #ident<__M> {
            fn fmt(&self, __out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.connection, __out)
            }
        }
        };
    };
    (stub, calls)
}

/// Functions that keep constants and statics of the program, whatever their names, out of where the stub's parameters
/// are named: unlike these, a function may be hidden by a parameter.
fn free_names(service: &Service) -> TokenStream {
    let arguments = service.methods.iter().flat_map(|method| &method.arguments);
    let named = arguments.map(|argument| (argument.ident.unraw(), argument.ident.clone()));
    let own = Ident::new("connection", Span::call_site());
    let names: BTreeMap<_, _> = named.chain([(own.clone(), own)]).collect();
    let names = names.values();
    quote!(#(fn #names() {})*)
}

/// The condition under which the stub has a function of its own, `new` or `start`: a method of that name
/// takes precedence. `None` if there always is one.
fn unless_taken(service: &Service, name: &str) -> Option<TokenStream> {
    let same = service
        .methods
        .iter()
        .filter(|method| method.ident.unraw() == name);
    let mut unless = TokenStream::new();
    for method in same {
        if method.cfgs.is_empty() {
            return None;
        }
        let conditions = method
            .cfgs
            .iter()
            .filter_map(|cfg| cfg.meta.require_list().ok())
            .map(|list| &list.tokens);
        unless.extend(quote!(#[cfg(not(all(#(#conditions),*)))]));
    }
    Some(unless)
}

fn stub_method(service: &Service, method: &Method) -> TokenStream {
    let p = service.private();
    let vis = &service.item.vis;
    let (ident, attrs, cfgs) = (&method.ident, &method.attrs, &method.cfgs);
    let whole = format!("{}.{}", service.name, method.wire_name());
    let (arguments, values): (Vec<_>, Vec<_>) = method.arguments.iter().map(lend).unzip();
    let names = method.arguments.iter().map(|argument| &argument.ident);
    let sent = arguments_ident(method, "sent");
    let (verb, output) = match &method.output {
        _ if method.oneway.is_some() => (
            quote!(self.connection.notify),
            quote!(::core::result::Result<(), #p::CallError>),
        ),
        ReturnType::Default => (quote!(), quote!()),
        ReturnType::Type(_, ty) => {
            let call = outcome(&p, ty, "call");
            (
                quote_spanned!(super::site(ty)=> #call::<__M>),
                stub_output(&p, ty),
            )
        }
    };
    let connection = method.oneway.is_none().then(|| quote!(&self.connection,));
    let body = quote!({ #verb(#connection #whole, &#sent { #(#names: #values),* }) });
    let body = at_output(method, body);
    quote! {
        #(#attrs)*
        #(#cfgs)*
        #vis fn #ident(&self, #(#arguments),*) -> #output #body
    }
}

/// What is asked what it means to return the type. Wherever that stands it points at the type, and is the one
/// thing that is asked of it, so that there is one complaint about one that cannot be returned.
pub(super) fn outcome(p: &TokenStream, ty: &Type, name: &str) -> TokenStream {
    let span = super::site(ty);
    let (name, ty) = (
        Ident::new(name, span),
        super::located_at(span, ty.to_token_stream()),
    );
    quote_spanned!(span=> <#ty as #p::MethodReturn>::#name)
}

/// Puts what a method does where its type is that it returns.
fn at_output(method: &Method, tokens: TokenStream) -> TokenStream {
    match &method.output {
        ReturnType::Type(_, ty) => super::located_at(super::site(ty), tokens),
        ReturnType::Default => tokens,
    }
}

/// What the stub gives. A `Result`, `Deferred` or `Stream` with both types in sight is written out, so that the
/// stub's documentation is readable; any other type is asked.
fn stub_output(p: &TokenStream, ty: &Type) -> TokenStream {
    match two_types(ty) {
        Some((name, value, error)) if name == "Stream" => quote! {
            ::core::result::Result<#p::Items<#value, #error>, #p::CallError<#error>>
        },
        Some((name, value, error)) if name == "Result" || name == "Deferred" => {
            quote!(<__M as #p::CallMode>::Output<#value, #error>)
        }
        _ => {
            let stub = outcome(p, ty, "Stub");
            quote_spanned!(super::site(ty)=> #stub<__M>)
        }
    }
}

/// The name and types of what is spelt `Name<T, E>`.
fn two_types(ty: &Type) -> Option<(&Ident, &Type, &Type)> {
    let segment = known_name(ty)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    let mut arguments = arguments.args.iter();
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(GenericArgument::Type(value)), Some(GenericArgument::Type(error)), None) => {
            Some((&segment.ident, value, error))
        }
        _ => None,
    }
}

/// An argument of the stub, and the value that is sent. Sending lends: a descriptor is borrowed from whatever
/// holds it.
fn lend(argument: &Argument) -> (TokenStream, TokenStream) {
    let (ident, ty) = (&argument.ident, &argument.ty);
    let borrowed = quote!(::std::os::fd::BorrowedFd<'_>);
    let ty = match held(argument) {
        Held::Plain => quote!(#ty),
        Held::Descriptor => {
            let value = quote!(::std::os::fd::AsFd::as_fd(&#ident));
            return (quote!(#ident: impl ::std::os::fd::AsFd), value);
        }
        Held::Optional => quote!(::core::option::Option<#borrowed>),
        Held::Several => quote!(&[#borrowed]),
        Held::Inside => quote!(&#ty),
    };
    (quote!(#ident: #ty), quote!(#ident))
}

/// What an argument with `#[fd]` is.
enum Held {
    /// It has none.
    Plain,
    Descriptor,
    Optional,
    Several,
    /// A message with descriptors inside, or a container of some.
    Inside,
}

fn held(argument: &Argument) -> Held {
    let ty = &argument.ty;
    if argument.says.fd.is_none() {
        Held::Plain
    } else if is_descriptor(ty) {
        Held::Descriptor
    } else if option_of(ty).is_some_and(is_descriptor) {
        Held::Optional
    } else if argument_of(ty, "Vec").is_some_and(is_descriptor) {
        Held::Several
    } else {
        Held::Inside
    }
}

/// What an argument is sent as: what the stub takes, with a name for how long it is lent.
fn lent(argument: &Argument) -> Type {
    let (ty, lent) = (&argument.ty, lifetime(LENT));
    let borrowed = quote!(::std::os::fd::BorrowedFd<#lent>);
    match (held(argument), argument.passing, ty) {
        (Held::Descriptor, ..) => parse_quote!(#borrowed),
        (Held::Optional, ..) => parse_quote!(::core::option::Option<#borrowed>),
        (Held::Several, ..) => parse_quote!(&#lent [#borrowed]),
        (Held::Inside, ..) => parse_quote!(&#lent #ty),
        (Held::Plain, Passing::OptionStr, _) => {
            parse_quote!(::core::option::Option<&#lent ::core::primitive::str>)
        }
        (Held::Plain, _, Type::Reference(reference)) => {
            let lifetime = Some(lent);
            Type::Reference(TypeReference {
                lifetime,
                ..reference.clone()
            })
        }
        (Held::Plain, ..) => ty.clone(),
    }
}

/// The impl that finds a method by its number, decodes its arguments and calls it.
fn dispatcher(service: &Service) -> TokenStream {
    let p = service.private();
    let (of, name) = (&service.item.ident, &service.name);
    // A method's number is its place in the trait, whether or not those before it are compiled.
    let names = service.methods.iter().map(|method| {
        let (cfgs, name) = (&method.cfgs, method.wire_name());
        quote!(#(#cfgs)* #name)
    });
    let numbers = service.methods.iter().enumerate().map(|(index, method)| {
        let (cfgs, names) = (&method.cfgs, method.all_names());
        quote!(#(#cfgs)* (#index, &[#(#names),*]))
    });
    let arms = service.methods.iter().enumerate().map(|(index, method)| {
        let (ident, cfgs) = (&method.ident, &method.cfgs);
        let received = arguments_ident(method, "received");
        let types = method.arguments.iter().map(|argument| owned(&p, argument));
        let text = lifetimes(&types.collect::<Vec<_>>()).map(|_| quote!(<'_>));
        let call = method.call.then(|| quote!(__call,));
        let values = method.arguments.iter().map(value);
        let context = method.call.then(|| quote!(__call: &mut #p::Call,));
        let verb = match (&method.output, method.call) {
            (ReturnType::Type(_, ty), true) => outcome(&p, ty, "answer_call"),
            (ReturnType::Type(_, ty), false) => outcome(&p, ty, "answer"),
            (ReturnType::Default, true) => quote!(#p::Incoming::oneway_call),
            (ReturnType::Default, false) => quote!(#p::Incoming::oneway),
        };
        let answer = at_output(
            method,
            quote! {
                #verb(__incoming, |#context __params: #received #text| {
                    <__S as #of>::#ident(__state, #call #(#values),*)
                })
            },
        );
        quote!(#(#cfgs)* #index => #answer,)
    });
    let methods = service.methods.iter();
    let asked = methods
        .flat_map(|method| &method.asked)
        .chain(&service.asked);
    let asked = asked.map(|predicate| replace(predicate.to_token_stream(), &quote!(__S)));
    let asked: Vec<_> = asked.collect();
    let clause = (!asked.is_empty()).then(|| quote!(where #(#asked),*));
    quote! {
        #[automatically_derived]
        impl<__S: #of> #p::Service<__S> for dyn #of #clause {
            const NAME: &'static str = #name;
            const METHODS: &'static [&'static str] = &[#(#names),*];
            const NUMBERS: &'static [(usize, &'static [&'static str])] = &[#(#numbers),*];

            fn call(__state: &mut __S, __method: usize, __incoming: #p::Incoming<'_, '_>) {
                match __method {
                    #(#arms)*
                    _ => {}
                }
            }
        }
    }
}

/// What an argument is decoded into.
fn owned(p: &TokenStream, argument: &Argument) -> Type {
    let (ty, text) = (&argument.ty, lifetime(TEXT));
    match (argument.passing, ty) {
        (Passing::Str, _) => parse_quote!(#p::Text<#text>),
        (Passing::OptionStr, _) => parse_quote!(::core::option::Option<#p::Text<#text>>),
        (Passing::Path, _) => parse_quote!(::std::path::PathBuf),
        (Passing::Slice, Type::Reference(reference)) => match &*reference.elem {
            Type::Slice(slice) => {
                let elem = &slice.elem;
                match is_number(elem) {
                    true => parse_quote!(#p::Numbers<#elem>),
                    false => parse_quote!(::std::vec::Vec<#elem>),
                }
            }
            other => other.clone(),
        },
        (Passing::Reference, Type::Reference(reference)) => (*reference.elem).clone(),
        _ => ty.clone(),
    }
}

/// What an argument is in a description: what holds the same JSON, and is owned.
fn shown(argument: &Argument) -> Type {
    let ty = &argument.ty;
    match (argument.passing, ty) {
        (Passing::Str, _) => parse_quote!(::std::string::String),
        (Passing::OptionStr, _) => parse_quote!(::core::option::Option<::std::string::String>),
        (Passing::Slice, Type::Reference(reference)) => match &*reference.elem {
            Type::Slice(slice) => {
                let elem = &slice.elem;
                parse_quote!(::std::vec::Vec<#elem>)
            }
            other => other.clone(),
        },
        _ => owned(&TokenStream::new(), argument),
    }
}

/// Says whether a type is a number, as far as its name tells.
fn is_number(ty: &Type) -> bool {
    const NUMBERS: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64",
    ];
    let Type::Path(path) = ty else { return false };
    let named = |name: &&str| path.path.is_ident(*name);
    path.qself.is_none() && NUMBERS.iter().any(named)
}

/// How the handler gets it.
fn value(argument: &Argument) -> TokenStream {
    let ident = &argument.ident;
    match argument.passing {
        Passing::Value => quote!(__params.#ident),
        Passing::Reference => quote!(&__params.#ident),
        Passing::Str | Passing::Slice | Passing::Path => quote!(&*__params.#ident),
        Passing::OptionStr => quote!(::core::option::Option::as_deref(&__params.#ident)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The service in the README, as it stands there.
    fn readme() -> ItemTrait {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let from = text.find("#[jsoncomm::service").unwrap();
        let item = text.get(from..).unwrap();
        let to = item.find("\n}\n").unwrap() + 2;
        syn::parse_str(item.get(..to).unwrap()).unwrap()
    }

    /// After a change of what is generated: `SNAPSHOT=overwrite cargo test -p jsoncomm-derive`, and read the
    /// difference.
    #[test]
    fn what_is_generated_for_the_readme_is_as_checked_in() {
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
            "// What `#[jsoncomm::service]` makes of the README's service. Written by the test in service.rs.\n\n{}",
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
