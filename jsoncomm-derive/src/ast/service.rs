//! The trait below `#[service]`: its methods and their arguments.

use super::types::{
    all_idents, argument_of, descriptor, is_named, is_primitive, last_segment, str_reference,
    ungrouped,
};
use crate::attr::{self, Attributes, FieldAttrs, MethodAttrs, ServiceAttrs};
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, FnArg, Generics, ItemTrait, LitStr, Pat, PatType, ReturnType, Signature, TraitItem,
    TraitItemFn, Type, WherePredicate,
};

/// A trait that is a service.
pub(crate) struct Service {
    /// The trait, without our attributes.
    pub(crate) item: ItemTrait,
    pub(crate) attrs: ServiceAttrs,
    /// The lints that are allowed on the trait, a method or an argument.
    pub(crate) allowed: Vec<Attribute>,
    /// `#[deprecated]` on the trait, which the stub repeats.
    pub(crate) deprecated: Vec<Attribute>,
    /// What the trait's `where` clause requires of `Self`.
    pub(crate) required: Vec<WherePredicate>,
    pub(crate) methods: Vec<Method>,
}

pub(crate) struct Method {
    pub(crate) signature: Signature,
    /// All attributes but ours.
    pub(crate) others: Vec<Attribute>,
    /// The attributes that the stub repeats: documentation and deprecation.
    pub(crate) repeated: Vec<Attribute>,
    /// `#[cfg(...)]`, for everything that is generated for the method.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) attrs: MethodAttrs,
    /// What the method's `where` clause requires of `Self`.
    pub(crate) required: Vec<WherePredicate>,
    /// The handler takes `&mut Call`.
    pub(crate) call: bool,
    pub(crate) arguments: Vec<Argument>,
    /// The return type, without the groups that macros put around it.
    pub(crate) output: Option<Type>,
}

pub(crate) struct Argument {
    /// The name; that of a pattern without one is not used.
    pub(crate) ident: Ident,
    pub(crate) pattern: Pat,
    pub(crate) attrs: FieldAttrs,
    /// All attributes but ours.
    pub(crate) others: Vec<Attribute>,
    pub(crate) ty: Type,
    pub(crate) kind: ArgumentKind,
}

/// What an argument holds, whether the handler owns or borrows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    /// A number, `bool` or `char`.
    Copied,
    /// `String` or `&str`
    Text,
    /// `Option<String>` or `Option<&str>`
    OptionText,
    /// `Vec<T>` or `&[T]`
    Slice,
    /// `PathBuf` or `&Path`
    Path,
    /// `#[fd]` with a descriptor.
    Fd,
    /// `#[fd]` with an `Option` of a descriptor.
    OptionFd,
    /// `#[fd]` with a `Vec` of descriptors.
    Fds,
    /// `#[fd]` with a message with descriptors inside, or a container of such messages.
    FdMessage,
    /// Any other `T` or `&T`.
    Other,
}

impl Service {
    /// Reads `#[service(...)]` and the trait below it, and removes our attributes from the trait.
    pub(crate) fn from_syn(cx: &Ctxt, options: TokenStream, mut item: ItemTrait) -> Self {
        let attrs = ServiceAttrs::from_tokens(cx, options);
        let mut attributes = Attributes::default();
        attributes.visit_item_trait_mut(&mut item.clone());
        let allowed = attr::allowed(&attributes);
        let functions = item.items.iter_mut().filter_map(|part| match part {
            TraitItem::Fn(function) => Some(function),
            _ => None,
        });
        let methods = functions.map(|function| Method::from_syn(cx, function));
        let methods = methods.collect();
        Self {
            attrs,
            allowed,
            deprecated: with_names(&item.attrs, &["deprecated"]),
            required: required(&item.generics),
            item,
            methods,
        }
    }

    /// The service's name, which stands before the methods' names on the wire.
    pub(crate) fn name(&self) -> String {
        let name = self.attrs.name.as_ref();
        name.map(LitStr::value).unwrap_or_default()
    }

    /// Returns the attribute that lets the dispatcher call what is deprecated, if anything is.
    pub(crate) fn allow_deprecated(&self) -> Option<TokenStream> {
        let of_methods = self.methods.iter().flat_map(|method| &method.repeated);
        let mut all = self.deprecated.iter().chain(of_methods);
        let any = all.any(|attribute| attribute.path().is_ident("deprecated"));
        any.then(|| quote!(#[allow(deprecated, reason = "it is served all the same")]))
    }
}

impl Method {
    fn from_syn(cx: &Ctxt, function: &mut TraitItemFn) -> Self {
        let ours = take(&mut function.attrs, &["oneway", "serde", "since"]);
        let signature = &mut function.sig;
        let (mut call, mut arguments) = (false, Vec::new());
        for (position, input) in signature.inputs.iter_mut().skip(1).enumerate() {
            let FnArg::Typed(input) = input else { continue };
            let ty = ungrouped((*input.ty).clone());
            if position == 0 && is_call(&ty) {
                call = true;
            } else {
                arguments.push(Argument::from_syn(cx, position, input, ty));
            }
        }
        let output = match &signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ungrouped((**ty).clone())),
        };
        Self {
            signature: signature.clone(),
            repeated: with_names(&function.attrs, &["doc", "deprecated"]),
            cfgs: with_names(&function.attrs, &["cfg"]),
            attrs: MethodAttrs::from_syn(cx, &ours),
            required: required(&signature.generics),
            others: function.attrs.clone(),
            call,
            arguments,
            output,
        }
    }

    /// The method's name on the wire, without the service's.
    pub(crate) fn wire_name(&self) -> String {
        match &self.attrs.rename {
            Some(name) => name.value(),
            None => self.signature.ident.unraw().to_string(),
        }
    }

    /// All names that the server knows the method by, the one on the wire first.
    pub(crate) fn all_names(&self) -> Vec<String> {
        let aliases = self.attrs.aliases.iter().map(LitStr::value);
        std::iter::once(self.wire_name()).chain(aliases).collect()
    }
}

impl Argument {
    fn from_syn(cx: &Ctxt, position: usize, input: &mut PatType, ty: Type) -> Self {
        let ours = take(&mut input.attrs, &["fd", "sensitive", "serde"]);
        let attrs = FieldAttrs::from_syn(cx, &ours, false);
        Self {
            ident: match &*input.pat {
                Pat::Ident(pattern) => pattern.ident.clone(),
                _ => format_ident!("__unnamed{position}"),
            },
            pattern: (*input.pat).clone(),
            others: input.attrs.clone(),
            kind: ArgumentKind::of(&ty, &attrs),
            attrs,
            ty,
        }
    }

    /// Returns true if the handler borrows the argument.
    pub(crate) fn is_borrowed(&self) -> bool {
        let option_str = argument_of(&self.ty, "Option").and_then(str_reference);
        matches!(self.ty, Type::Reference(_)) || option_str.is_some()
    }

    /// Returns a function that the argument's attributes name, which takes the argument's type and no other.
    pub(crate) fn function(&self) -> Option<TokenStream> {
        let attrs = &self.attrs;
        let path = attrs.default_function().or(attrs.skip_if.as_ref());
        let with = attrs.with_path.as_ref().map(ToTokens::to_token_stream);
        with.or(path.map(ToTokens::to_token_stream))
    }
}

impl ArgumentKind {
    fn of(ty: &Type, attrs: &FieldAttrs) -> Self {
        let inside = |name| argument_of(ty, name);
        let is_fd = |ty: Option<&Type>| ty.and_then(descriptor).is_some();
        if attrs.fd.is_some() {
            return match ty {
                ty if is_fd(Some(ty)) => Self::Fd,
                _ if is_fd(inside("Option")) => Self::OptionFd,
                _ if is_fd(inside("Vec")) => Self::Fds,
                _ => Self::FdMessage,
            };
        }
        // The user's function takes a reference to the whole type.
        let as_it_is = attrs.with_path.is_some() || attrs.skip_if.is_some();
        let is_text = |ty: &Type| is_named(ty, "String") || str_reference(ty).is_some();
        match ty {
            ty if is_primitive(ty) => Self::Copied,
            _ if as_it_is => Self::Other,
            ty if is_text(ty) => Self::Text,
            ty if is_named(ty, "PathBuf") => Self::Path,
            _ if inside("Vec").is_some() => Self::Slice,
            _ if inside("Option").is_some_and(is_text) => Self::OptionText,
            Type::Reference(to) if is_named(&to.elem, "Path") => Self::Path,
            Type::Reference(to) if matches!(*to.elem, Type::Slice(_)) => Self::Slice,
            _ => Self::Other,
        }
    }
}

/// Returns true for `&mut Call`, however its path is written.
fn is_call(ty: &Type) -> bool {
    matches!(ty, Type::Reference(to) if to.mutability.is_some()
        && last_segment(&to.elem).is_some_and(|segment| segment.ident == "Call"))
}

/// Returns what a `where` clause requires of `Self`. What it requires of other types is true for every implementation,
/// or for none.
fn required(generics: &Generics) -> Vec<WherePredicate> {
    let clause = generics.where_clause.iter();
    let all = clause.flat_map(|clause| &clause.predicates);
    let of_self = |one: &&WherePredicate| all_idents(one).any(|ident| ident == "Self");
    all.filter(of_self).cloned().collect()
}

fn has_name(attribute: &Attribute, names: &[&str]) -> bool {
    names.iter().any(|name| attribute.path().is_ident(name))
}

fn with_names(attributes: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    let named = attributes.iter().filter(|one| has_name(one, names));
    named.cloned().collect()
}

/// Removes the attributes that have one of the names, and returns them.
fn take(attributes: &mut Vec<Attribute>, names: &[&str]) -> Vec<Attribute> {
    let taken = with_names(attributes, names);
    attributes.retain(|one| !has_name(one, names));
    taken
}
