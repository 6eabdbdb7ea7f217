//! The trait that `#[service]` stands on: its methods, with their arguments on both sides.

mod types;

use crate::ast::ungrouped;
use crate::attr;
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, FnArg, Generics, ItemTrait, LitStr, Meta, Pat, Path, ReceiverKind, ReturnType,
    Token, TraitItem, TraitItemFn, Type, WherePredicate,
};

use types::{Place, descriptor, is_call, passing, refuse_borrows, refuse_self, returns_nothing};
pub(crate) use types::{argument_of, is_descriptor, known_name, option_of};

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
    /// The lints that are allowed on the trait, a method or an argument.
    pub(crate) allowed: Vec<Attribute>,
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
    /// That is spelt to be nothing; what comes out of a macro may happen to be.
    pub(crate) returns_nothing: bool,
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
        let allowed = attr::allowed(attributes(&item));
        let mut methods = Vec::new();
        for part in &mut item.items {
            match part {
                TraitItem::Fn(function) => methods.extend(Method::from_syn(cx, function)),
                other => cx.complain(other, "a service trait has methods only"),
            }
        }
        Self {
            allowed,
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

    /// What lets the dispatcher call what is deprecated, if the trait or a method is.
    pub(crate) fn allow_deprecated(&self) -> Option<TokenStream> {
        let mut of_methods = self.methods.iter().flat_map(|method| &method.attrs);
        let is = |attribute: &Attribute| attribute.path().is_ident("deprecated");
        let any = !self.deprecated.is_empty() || of_methods.any(is);
        any.then(|| quote::quote!(#[allow(deprecated, reason = "it is served all the same")]))
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
            let ty = ungrouped(&input.ty);
            if position == 0 && is_call(&ty) {
                call = true;
                continue;
            }
            refuse_self(cx, input.ty.to_token_stream());
            arguments.extend(Argument::from_syn(cx, input, ty));
        }
        refuse_self(cx, signature.output.to_token_stream());
        let output = match &signature.output {
            ReturnType::Type(arrow, ty) => ReturnType::Type(*arrow, Box::new(ungrouped(ty))),
            ReturnType::Default => ReturnType::Default,
        };
        if let ReturnType::Type(_, ty) = &output {
            refuse_borrows(cx, ty, Place::Answer);
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
            output,
            returns_nothing: returns_nothing(&signature.output),
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

/// The attributes of the trait, its methods and their arguments.
fn attributes(item: &ItemTrait) -> impl Iterator<Item = &Attribute> {
    let methods = item.items.iter().filter_map(|part| match part {
        TraitItem::Fn(method) => Some(method),
        _ => None,
    });
    let arguments = methods.clone().flat_map(|method| &method.sig.inputs);
    let of_arguments = arguments.flat_map(|argument| match argument {
        FnArg::Typed(argument) => &argument.attrs[..],
        FnArg::Receiver(receiver) => &receiver.attrs[..],
    });
    let of_methods = methods.flat_map(|method| &method.attrs);
    item.attrs.iter().chain(of_methods).chain(of_arguments)
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
    fn from_syn(cx: &Ctxt, input: &mut syn::PatType, ty: Type) -> Option<Self> {
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
        let declared = &ty;
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
            passing,
            ty,
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
