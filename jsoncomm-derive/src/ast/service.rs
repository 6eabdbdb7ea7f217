//! The trait that `#[service]` stands on: its methods, with their arguments on both sides.

use crate::ast::ungroup;
use crate::attr;
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, FnArg, GenericArgument, Generics, ItemTrait, LitStr, Meta, Pat, Path, PathArguments,
    PathSegment, ReceiverKind, ReturnType, Token, TraitItem, TraitItemFn, Type, TypePath,
    TypeReference, WherePredicate,
};

/// A trait to be a service.
pub(crate) struct Service {
    /// The trait as its user wrote it, without our attributes.
    pub(crate) item: ItemTrait,
    /// In front of the methods' names on the wire.
    pub(crate) name: String,
    /// Where the library is; `::jsoncomm` unless given.
    pub(crate) library: Option<Path>,
    /// What only serde knows is described by its JSON Schema.
    pub(crate) schema: Option<Path>,
    /// `#[deprecated]` on the trait, which the stub repeats.
    pub(crate) deprecated: Vec<Attribute>,
    /// What the trait's `where` clause asks of `Self`.
    pub(crate) asked: Vec<WherePredicate>,
    pub(crate) methods: Vec<Method>,
}

pub(crate) struct Method {
    pub(crate) ident: Ident,
    /// What the stub repeats: documentation and deprecation.
    pub(crate) attrs: Vec<Attribute>,
    /// `#[cfg(...)]`, for everything that is generated for the method.
    pub(crate) cfgs: Vec<Attribute>,
    /// What the method is called on the wire, and was called before.
    pub(crate) names: attr::Method,
    pub(crate) oneway: Option<Path>,
    /// What the method's `where` clause asks of `Self`.
    pub(crate) asked: Vec<WherePredicate>,
    /// The handler wants the `&mut Call`.
    pub(crate) call: bool,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) output: ReturnType,
}

pub(crate) struct Argument {
    pub(crate) ident: Ident,
    /// `#[fd]`, `#[sensitive]` and serde's.
    pub(crate) attrs: Vec<Attribute>,
    /// What they say.
    pub(crate) says: attr::Field,
    pub(crate) ty: Type,
    pub(crate) passing: Passing,
}

/// How the trait takes an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// `T`
    Value,
    /// `&str`
    Str,
    /// `Option<&str>`
    OptionStr,
    /// `&[T]`
    Slice,
    /// `&Path`
    Path,
    /// `&T`
    Reference,
}

impl Service {
    /// Reads `#[service(...)]` and the trait under it, and takes our attributes off the trait.
    pub(crate) fn from_syn(cx: &Ctxt, options: TokenStream, mut item: ItemTrait) -> Self {
        let (name, library, schema) = Self::options(cx, options);
        Self::check_trait(cx, &item);
        let mut methods = Vec::new();
        for part in &mut item.items {
            match part {
                TraitItem::Fn(function) => methods.extend(Method::from_syn(cx, function)),
                other => cx.complain(other, "a service trait has methods only"),
            }
        }
        Self {
            deprecated: attributes_of(&item.attrs, &["deprecated"]),
            asked: asked(&item.generics),
            item,
            name,
            library,
            schema,
            methods,
        }
    }

    fn options(cx: &Ctxt, options: TokenStream) -> (String, Option<Path>, Option<Path>) {
        let (mut name, mut library, mut schema) = (None::<LitStr>, None::<Path>, None);
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                name = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("crate") {
                library = Some(meta.value()?.parse::<LitStr>()?.parse()?);
            } else if meta.path.is_ident("schema") {
                schema = Some(meta.path.clone());
            } else {
                return Err(meta.error("expected `name = \"...\"`, `crate = \"...\"` or `schema`"));
            }
            Ok(())
        });
        let read = parser.parse2(options);
        let failed = cx.check(read).is_none();
        match name {
            Some(name) => {
                let text = name.value();
                if !is_service_name(&text) {
                    cx.complain(
                        &name,
                        "a service's name is made of letters, digits, `_`, `-` and single dots, and \
                         does not begin with `rpc.`",
                    );
                }
                (text, library, schema)
            }
            None => {
                if !failed {
                    cx.push(syn::Error::new(
                        proc_macro2::Span::call_site(),
                        "give the service a name: `#[service(name = \"example.files\")]`",
                    ));
                }
                (String::new(), library, schema)
            }
        }
    }

    fn check_trait(cx: &Ctxt, item: &ItemTrait) {
        attr::no_sensitive(cx, &item.attrs, "argument");
        if !item.generics.params.is_empty() {
            cx.complain(&item.generics, "a service trait has no parameters");
        }
        if let Some(token) = &item.unsafety {
            cx.complain(token, "a service trait is safe");
        }
    }

    /// The path of the library's names for generated code.
    pub(crate) fn private(&self) -> TokenStream {
        match &self.library {
            Some(library) => quote::quote!(#library::private),
            None => quote::quote!(::jsoncomm::private),
        }
    }
}

/// Dot-separated words; `rpc.` is JSON-RPC's own.
fn is_service_name(name: &str) -> bool {
    name.split('.').all(is_word) && name.split('.').next() != Some("rpc")
}

/// What stands between dots.
pub(crate) fn is_word(word: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !word.is_empty() && word.bytes().all(fits)
}

impl Method {
    fn from_syn(cx: &Ctxt, function: &mut TraitItemFn) -> Option<Self> {
        let (ours, theirs) = std::mem::take(&mut function.attrs)
            .into_iter()
            .partition::<Vec<_>, _>(|attribute| {
                attribute.path().is_ident("oneway") || attribute.path().is_ident("serde")
            });
        function.attrs = theirs;
        let names = attr::Method::from_syn(cx, &ours);
        attr::no_sensitive(cx, &function.attrs, "argument");
        let oneway = ours.iter().filter(|a| a.path().is_ident("oneway"));
        for attribute in oneway.clone() {
            cx.check(attribute.meta.require_path_only().map(|_| ()));
        }
        let oneway = oneway.map(|attribute| attribute.path().clone()).next();
        for attribute in &function.attrs {
            refuse_hidden(cx, attribute);
        }
        let signature = &mut function.sig;
        for (token, what) in [
            (
                signature.asyncness.map(ToTokens::into_token_stream),
                "async: answer later instead",
            ),
            (
                Some(signature.safety.to_token_stream()).filter(|token| !token.is_empty()),
                "unsafe",
            ),
            (
                signature.constness.map(ToTokens::into_token_stream),
                "const",
            ),
            (
                signature.abi.as_ref().map(ToTokens::to_token_stream),
                "foreign",
            ),
        ] {
            if let Some(token) = token {
                cx.complain(token, format!("a method of a service is not {what}"));
            }
        }
        if !signature.generics.params.is_empty() {
            cx.complain(
                &signature.generics,
                "a method of a service has no parameters of types or lifetimes",
            );
        }
        let mut inputs = signature.inputs.iter_mut();
        match inputs.next() {
            Some(FnArg::Receiver(receiver))
                if matches!(receiver.kind, ReceiverKind::Reference(_, None, _)) => {}
            Some(other) => {
                cx.complain(
                    other,
                    "a method of a service begins with `&mut self` or `&self`",
                );
            }
            None => {
                cx.complain(
                    &signature.ident,
                    "a method of a service begins with `&mut self` or `&self`",
                );
            }
        }
        let (mut call, mut arguments) = (false, Vec::new());
        for (position, input) in inputs.enumerate() {
            let FnArg::Typed(input) = input else { continue };
            if position == 0 && is_call(&input.ty) {
                call = true;
                continue;
            }
            refuse_self(cx, input.ty.to_token_stream());
            arguments.extend(Argument::from_syn(cx, input));
        }
        refuse_self(cx, signature.output.to_token_stream());
        if let ReturnType::Type(_, ty) = &signature.output {
            refuse_borrows(cx, ungroup(ty), Place::Answer);
        }
        let cfgs = attributes_of(&function.attrs, &["cfg"]);
        Some(Self {
            ident: signature.ident.clone(),
            attrs: repeated(&function.attrs),
            cfgs,
            names,
            oneway,
            asked: asked(&signature.generics),
            call,
            arguments,
            output: signature.output.clone(),
        })
    }

    /// The method's name on the wire, without the service's.
    pub(crate) fn wire_name(&self) -> String {
        match &self.names.rename {
            Some(name) => name.value(),
            None => self.ident.unraw().to_string(),
        }
    }

    /// Every name that the server knows the method by, the one on the wire first.
    pub(crate) fn all_names(&self) -> Vec<String> {
        let aliases = self.names.aliases.iter().map(LitStr::value);
        std::iter::once(self.wire_name()).chain(aliases).collect()
    }
}

/// What a `where` clause asks of `Self`. What it asks of other types holds for everybody or nobody.
fn asked(generics: &Generics) -> Vec<WherePredicate> {
    let clause = generics.where_clause.iter();
    let all = clause.flat_map(|clause| &clause.predicates);
    all.filter(|predicate| names_self(predicate.to_token_stream()))
        .cloned()
        .collect()
}

fn names_self(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "Self",
        TokenTree::Group(group) => names_self(group.stream()),
        _ => false,
    })
}

/// What the stub repeats of the trait's attributes.
fn repeated(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes_of(attributes, &["doc", "deprecated"])
}

/// Copies the attributes that have one of the names.
fn attributes_of(attributes: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    let named = |attribute: &&Attribute| names.iter().any(|name| attribute.path().is_ident(name));
    attributes.iter().filter(named).cloned().collect()
}

/// Complains about what the macro has to know and cannot see inside `cfg_attr`.
fn refuse_hidden(cx: &Ctxt, attribute: &Attribute) {
    const OURS: [&str; 5] = ["cfg", "oneway", "fd", "sensitive", "serde"];
    let Meta::List(list) = &attribute.meta else {
        return;
    };
    if !list.path.is_ident("cfg_attr") {
        return;
    }
    let Ok(all) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else {
        return;
    };
    for hidden in all.iter().skip(1) {
        if OURS.iter().any(|name| hidden.path().is_ident(name)) {
            cx.complain(
                hidden,
                "write this outside of `cfg_attr`, where the macro can see it",
            );
        }
    }
}

impl Argument {
    fn from_syn(cx: &Ctxt, input: &mut syn::PatType) -> Option<Self> {
        let (attrs, theirs) = std::mem::take(&mut input.attrs)
            .into_iter()
            .partition::<Vec<_>, _>(|attribute| {
                let of_field = ["fd", "sensitive", "serde"];
                of_field.iter().any(|name| attribute.path().is_ident(name))
            });
        input.attrs = theirs;
        for attribute in &input.attrs {
            if attribute.path().is_ident("cfg") {
                cx.complain(
                    attribute,
                    "an argument of a service cannot be conditional: put `#[cfg(...)]` on the method",
                );
            }
            refuse_hidden(cx, attribute);
        }
        let declared = ungroup(&input.ty);
        let ident = match &*input.pat {
            Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => pat.ident.clone(),
            other => {
                cx.complain(
                    other,
                    "an argument needs a name, which is its name on the wire",
                );
                return None;
            }
        };
        let says = attr::Field::from_syn(cx, &attrs, false);
        let fd = says.fd.is_some();
        let held = argument_of(declared, "Option").or(argument_of(declared, "Vec"));
        if let (Some(name), false) = (descriptor(held.unwrap_or(declared)), fd) {
            let text = format!(
                "a descriptor travels beside the JSON: write `#[fd] {ident}: ...`; a type of your own with this \
                 name is `self::{name}`"
            );
            cx.complain(declared, text);
        }
        let passing = passing(cx, declared);
        if fd && passing != Passing::Value {
            cx.complain(
                declared,
                "a received descriptor is owned: write the type by value",
            );
        }
        Some(Self {
            ident,
            attrs,
            says,
            ty: declared.clone(),
            passing,
        })
    }

    /// What names a function of its own, which knows its type and no other.
    pub(crate) fn function(&self) -> Option<TokenStream> {
        let says = &self.says;
        let default = match &says.default {
            Some(attr::Default::Path(path)) => Some(path),
            _ => None,
        };
        let path = default.or(says.skip_if.as_ref());
        let with = says.with_path.as_ref().map(ToTokens::to_token_stream);
        with.or(path.map(ToTokens::to_token_stream))
    }
}

/// Says whether this is `&mut Call`, however its path is written.
fn is_call(ty: &Type) -> bool {
    matches!(ty, Type::Reference(TypeReference { mutability: Some(_), elem, .. })
        if last_segment(elem).is_some_and(|segment| segment.ident == "Call"))
}

/// Finds out how an argument is taken, and refuses what cannot be decoded.
fn passing(cx: &Ctxt, ty: &Type) -> Passing {
    if let Some(inner) = option_of(ty) {
        if let Some(reference) = str_reference(inner) {
            refuse_lifetime(cx, reference);
            return Passing::OptionStr;
        }
    }
    let Type::Reference(reference) = ty else {
        refuse_unsized(cx, ty);
        refuse_borrows(cx, ty, Place::Argument);
        return Passing::Value;
    };
    refuse_unsized(cx, &reference.elem);
    refuse_lifetime(cx, reference);
    if let Some(token) = &reference.mutability {
        cx.complain(
            token,
            "an argument is taken by value or by `&`; only `&mut Call` comes first",
        );
    }
    match &*reference.elem {
        elem if is_named(elem, "str") => Passing::Str,
        elem if is_named(elem, "Path") => Passing::Path,
        Type::Slice(slice) => {
            refuse_borrows(cx, &slice.elem, Place::Argument);
            Passing::Slice
        }
        elem => {
            refuse_borrows(cx, elem, Place::Argument);
            Passing::Reference
        }
    }
}

/// The `T` of a type that is spelt `Option<T>`.
pub(crate) fn option_of(ty: &Type) -> Option<&Type> {
    argument_of(ty, "Option")
}

/// The `T` of a type that is spelt `Name<T>`.
pub(crate) fn argument_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let segment = known_name(ty).filter(|segment| segment.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(TypePath {
            qself: None, path, ..
        }) => path.segments.last(),
        _ => None,
    }
}

/// The last name of a path that may be one of those we know: what is found from `self`, `super` or `crate` is of
/// the user's own.
pub(crate) fn known_name(ty: &Type) -> Option<&PathSegment> {
    let first = match ty {
        Type::Path(ty) => ty.path.segments.first(),
        _ => None,
    };
    let is_own = |first: &PathSegment| {
        let mut own = ["self", "super", "crate"].iter();
        own.any(|own| first.ident == own)
    };
    last_segment(ty).filter(|_| !first.is_some_and(is_own))
}

fn is_named(ty: &Type, name: &str) -> bool {
    known_name(ty).is_some_and(|segment| segment.ident == name && segment.arguments.is_none())
}

fn str_reference(ty: &Type) -> Option<&TypeReference> {
    match ty {
        Type::Reference(to) if to.mutability.is_none() && is_named(&to.elem, "str") => Some(to),
        _ => None,
    }
}

/// Complains about trait objects: what is decoded has a size.
fn refuse_unsized(cx: &Ctxt, ty: &Type) {
    match ty {
        Type::TraitObject(ty) => {
            cx.complain(
                ty,
                "an argument has a size of its own, as a `Box` of this would",
            );
        }
        Type::Paren(inner) => refuse_unsized(cx, &inner.elem),
        Type::Group(inner) => refuse_unsized(cx, &inner.elem),
        _ => {}
    }
}

/// Where a type stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Argument,
    Answer,
}

impl Place {
    /// What to write in place of a reference.
    fn advice(self) -> &'static str {
        match self {
            Self::Argument => {
                "an argument borrows as a whole, as `&str`, `&[T]`, `&T` or `Option<&str>`, or not at all"
            }
            Self::Answer => "a method answers something owned: who calls is another process",
        }
    }
}

/// Complains about references and lifetimes inside a type: there is nothing they could borrow from.
fn refuse_borrows(cx: &Ctxt, ty: &Type, place: Place) {
    match ty {
        Type::Reference(reference) => cx.complain(reference, place.advice()),
        Type::Slice(slice) => refuse_borrows(cx, &slice.elem, place),
        Type::Array(array) => refuse_borrows(cx, &array.elem, place),
        Type::Paren(inner) => refuse_borrows(cx, &inner.elem, place),
        Type::Group(inner) => refuse_borrows(cx, &inner.elem, place),
        Type::Tuple(tuple) => tuple
            .elems
            .iter()
            .for_each(|elem| refuse_borrows(cx, elem, place)),
        Type::Path(path) => {
            for segment in &path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
                    continue;
                };
                for argument in &arguments.args {
                    match argument {
                        GenericArgument::Type(inner) => refuse_borrows(cx, inner, place),
                        // An answer may lend what its type can also own, as `Cow<'_, str>` does.
                        GenericArgument::Lifetime(lifetime)
                            if place == Place::Argument && lifetime.ident != "static" =>
                        {
                            cx.complain(lifetime, place.advice());
                        }
                        _ => {}
                    }
                }
            }
        }
        Type::ImplTrait(ty) => cx.complain(ty, "write a type that has a name"),
        _ => {}
    }
}

/// Complains about `Self`, which is whoever serves the trait.
fn refuse_self(cx: &Ctxt, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => {
                cx.complain(
                    ident,
                    "a client does not know what `Self` is: write the type",
                );
            }
            TokenTree::Group(group) => refuse_self(cx, group.stream()),
            _ => {}
        }
    }
}

/// Complains about a reference that is said to live longer than the call.
fn refuse_lifetime(cx: &Ctxt, reference: &TypeReference) {
    let lifetime = reference.lifetime.as_ref();
    if let Some(lifetime) = lifetime.filter(|lifetime| lifetime.ident != "_") {
        let text = "an argument is borrowed while the call is handled: leave the lifetime away";
        cx.complain(lifetime, text);
    }
}

/// Says whether the method returns nothing.
pub(crate) fn returns_nothing(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

/// Says whether the type is spelt as one of those that are a descriptor and nothing else.
pub(crate) fn is_descriptor(ty: &Type) -> bool {
    descriptor(ty).is_some()
}

/// The name of such a type.
fn descriptor(ty: &Type) -> Option<&Ident> {
    const NAMES: [&str; 8] = [
        "OwnedFd",
        "File",
        "UnixStream",
        "UnixDatagram",
        "UnixListener",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
    ];
    let name = known_name(ty).map(|segment| &segment.ident);
    name.filter(|ident| NAMES.iter().any(|name| *ident == name))
}
