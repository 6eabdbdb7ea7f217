//! The type below `derive(Message)`: its parts, with their names on the wire.

pub(crate) mod arguments;
pub(crate) mod service;
pub(crate) mod types;

use crate::attr::{
    self, Attributes, Both, Case, DefaultValue, Docs, FieldAttrs, TypeAttrs, VariantAttrs,
};
use crate::ctxt::Ctxt;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Data, DeriveInput, Fields, GenericParam, Generics, Index, Lifetime, LitStr, Member,
    Type,
};
use types::{argument_of, is_text_or_bytes, lifetimes, replace_self, std_name, ungrouped};

/// A type that is a message.
pub(crate) struct Message {
    pub(crate) ident: Ident,
    /// Without defaults, and with the type's name instead of `Self`.
    pub(crate) generics: Generics,
    pub(crate) docs: Docs,
    /// The lints that are allowed on the type or inside it.
    pub(crate) allowed: Vec<Attribute>,
    /// The note of `#[deprecated]`.
    pub(crate) deprecated: Option<String>,
    pub(crate) attrs: TypeAttrs,
    /// The name of the type itself, which other formats than JSON may write.
    pub(crate) name: String,
    pub(crate) shape: Shape,
}

pub(crate) enum Shape {
    Struct(Body),
    Enum(Vec<Variant>),
}

pub(crate) struct Variant {
    pub(crate) ident: Ident,
    pub(crate) docs: Docs,
    pub(crate) attrs: VariantAttrs,
    pub(crate) names: Names,
    pub(crate) body: Body,
}

/// The fields of a struct or variant.
pub(crate) struct Body {
    pub(crate) style: Style,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Named,
    Tuple,
    /// Written as its only field; also a struct with `transparent`.
    Newtype,
    Unit,
}

pub(crate) struct Field {
    pub(crate) member: Member,
    /// The field's name in generated code.
    pub(crate) local: Ident,
    pub(crate) ty: Type,
    /// What is written is a reference to the type.
    pub(crate) lent: bool,
    pub(crate) docs: Docs,
    pub(crate) attrs: FieldAttrs,
    pub(crate) names: Names,
    /// The lifetimes of the text that it may borrow from.
    pub(crate) borrowed: BTreeSet<Lifetime>,
}

/// The names of something on the wire.
pub(crate) struct Names {
    pub(crate) ser: String,
    pub(crate) de: String,
    /// All names that are accepted, `de` among them.
    pub(crate) known: BTreeSet<String>,
}

impl Message {
    pub(crate) fn from_syn(cx: &Ctxt, input: &DeriveInput) -> Option<Self> {
        let whole = with_parameters(&input.ident, &input.generics);
        let replaced = replace_self(input.to_token_stream(), &whole);
        let mut input: DeriveInput = cx.check(syn::parse2(replaced))?;
        let mut attributes = Attributes::default();
        attributes.visit_derive_input_mut(&mut input);
        let attrs = TypeAttrs::from_syn(cx, &input.attrs);
        let reader = Reader { cx, attrs: &attrs };
        let shape = match &input.data {
            Data::Struct(data) => {
                let mut body = reader.body(&data.fields, None);
                if attrs.transparent.is_some() {
                    body.make_transparent();
                }
                Shape::Struct(body)
            }
            Data::Enum(data) => {
                let variants = data.variants.iter();
                Shape::Enum(variants.map(|variant| reader.variant(variant)).collect())
            }
            Data::Union(data) => {
                let text = "a union cannot be a message: write a struct or an enum";
                cx.error(data.union_token, text);
                return None;
            }
        };
        let name = attrs.rename.ser.clone();
        Some(Self {
            ident: input.ident.clone(),
            docs: Docs::from_syn(&input.attrs),
            allowed: attr::allowed(&attributes),
            deprecated: attr::deprecated(&input.attrs),
            name: name.unwrap_or_else(|| input.ident.unraw().to_string()),
            generics: without_defaults(input.generics),
            attrs,
            shape,
        })
    }

    /// Returns the type with its parameters.
    pub(crate) fn whole(&self) -> TokenStream {
        with_parameters(&self.ident, &self.generics)
    }

    /// The type's name as the user writes it.
    pub(crate) fn rust_name(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// The struct's fields, or those of each variant with its attributes.
    pub(crate) fn bodies(&self) -> Vec<(&Body, Option<&VariantAttrs>)> {
        match &self.shape {
            Shape::Struct(body) => vec![(body, None)],
            Shape::Enum(variants) => {
                let variants = variants.iter();
                variants.map(|v| (&v.body, Some(&v.attrs))).collect()
            }
        }
    }

    /// All fields, also those of variants.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.bodies().into_iter().flat_map(|(body, _)| &body.fields)
    }

    /// Returns true if a field has `#[fd]`.
    pub(crate) fn has_fds(&self) -> bool {
        self.fields().any(|field| field.attrs.fd.is_some())
    }

    /// Returns true if a field is sensitive.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.fields().any(Field::is_sensitive)
    }

    /// The enum's variants; none for a struct.
    pub(crate) fn variants(&self) -> &[Variant] {
        match &self.shape {
            Shape::Struct(_) => &[],
            Shape::Enum(variants) => variants,
        }
    }

    /// The service's name, in an enum of requests; empty without one.
    pub(crate) fn service(&self) -> String {
        let name = self.attrs.service.as_ref();
        name.map(LitStr::value).unwrap_or_default()
    }

    /// A method's name, in an enum of requests: the variant's in snake case, unless serde's attributes rename it.
    pub(crate) fn method(&self, variant: &Variant) -> String {
        if variant.attrs.rename.de.is_some() || self.attrs.rename_all.de.is_some() {
            variant.names.de.clone()
        } else {
            Case::Snake.variant(&variant.ident.unraw().to_string())
        }
    }
}

/// Reads the parts of a type.
struct Reader<'a> {
    cx: &'a Ctxt,
    attrs: &'a TypeAttrs,
}

impl Reader<'_> {
    fn variant(&self, variant: &syn::Variant) -> Variant {
        let delegate = self.attrs.delegate.is_some();
        let attrs = VariantAttrs::from_syn(self.cx, &variant.attrs, delegate);
        Variant {
            ident: variant.ident.clone(),
            docs: Docs::from_syn(&variant.attrs),
            names: Names::new(
                &variant.ident,
                &attrs.rename,
                &attrs.aliases,
                &self.attrs.rename_all,
                Case::variant,
            ),
            body: self.body(&variant.fields, Some(&attrs)),
            attrs,
        }
    }

    fn body(&self, fields: &Fields, variant: Option<&VariantAttrs>) -> Body {
        let style = match fields {
            Fields::Named(_) => Style::Named,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Style::Newtype,
            Fields::Unnamed(_) => Style::Tuple,
            Fields::Unit => Style::Unit,
        };
        let mut cases = self.attrs.rename_all.clone();
        if let Some(attrs) = variant {
            let (own, usual) = (&attrs.rename_all, &self.attrs.rename_all_fields);
            (cases.ser, cases.de) = (own.ser.or(usual.ser), own.de.or(usual.de));
        }
        let fields = fields.iter().enumerate();
        let fields = fields.filter_map(|(index, field)| self.field(index, field, &cases));
        Body {
            style,
            fields: fields.collect(),
        }
    }

    fn field(&self, index: usize, field: &syn::Field, cases: &Both<Case>) -> Option<Field> {
        let cx = self.cx;
        cx.check(field.modifiers.require_empty());
        if let Some((_, value)) = &field.default {
            let text = "write `#[serde(default)]` for a member that may be absent";
            cx.error(value, text);
        }
        let delegate = self.attrs.delegate.is_some();
        let mut attrs = FieldAttrs::from_syn(cx, &field.attrs, delegate);
        if attrs.skip_de && self.attrs.default.is_none() && attrs.default.is_none() {
            attrs.default = Some(DefaultValue::Trait);
        }
        let ty = ungrouped(field.ty.clone());
        let (member, names) = match &field.ident {
            // syn reads this, and Rust does not.
            Some(ident) if ident == "_" => {
                cx.error(ident, "a field needs a name, which is its name on the wire");
                return None;
            }
            Some(ident) => {
                let names = Names::new(ident, &attrs.rename, &attrs.aliases, cases, Case::field);
                (Member::Named(ident.clone()), names)
            }
            None => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                let span = field.ty.span();
                let member = Member::Unnamed(Index { index, span });
                (member, Names::of_element(index))
            }
        };
        Some(Field {
            member,
            local: format_ident!("__f{index}"),
            borrowed: borrowed(&ty, &attrs),
            docs: Docs::from_syn(&field.attrs),
            ty,
            lent: false,
            attrs,
            names,
        })
    }
}

impl Body {
    /// Skips all fields but the one that stands for the whole, as serde does.
    fn make_transparent(&mut self) {
        self.style = Style::Newtype;
        for field in &mut self.fields {
            let phantom = std_name(&field.ty).is_some_and(|name| name.ident == "PhantomData");
            let attrs = &mut field.attrs;
            if phantom || attrs.skip_ser || attrs.skip_de {
                (attrs.skip_ser, attrs.skip_de) = (true, true);
            }
        }
    }

    /// The fields that are written.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.attrs.skip_ser)
    }

    /// The fields that are read.
    pub(crate) fn read(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.attrs.skip_de)
    }

    /// Returns true if a field is sensitive.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.fields.iter().any(Field::is_sensitive)
    }

    /// Returns the pattern that binds some fields by reference.
    pub(crate) fn pattern(&self, bound: impl Fn(&&Field) -> bool) -> TokenStream {
        let fields = self.fields.iter().filter(bound).map(|field| {
            let (member, local) = (&field.member, &field.local);
            let reference = field.lent.then(|| quote!(&));
            quote!(#member: #reference ref #local,)
        });
        quote!({ #(#fields)* .. })
    }
}

impl Field {
    pub(crate) fn is_sensitive(&self) -> bool {
        self.attrs.sensitive.is_some()
    }

    /// Returns the local name at the type's place, for the error that the type cannot be written.
    pub(crate) fn local_at_type(&self) -> Ident {
        let span = self.ty.span().resolved_at(Span::call_site());
        Ident::new(&self.local.to_string(), span)
    }

    /// Returns the content of a `Cow` that is borrowed: `str` or `[u8]`.
    pub(crate) fn borrowed_cow(&self) -> Option<&Type> {
        let content = argument_of(&self.ty, "Cow").filter(|ty| is_text_or_bytes(ty));
        content.filter(|_| !self.borrowed.is_empty() && self.attrs.fd.is_none())
    }
}

impl Names {
    fn new(
        ident: &Ident,
        rename: &Both<String>,
        aliases: &[String],
        cases: &Both<Case>,
        apply: fn(Case, &str) -> String,
    ) -> Self {
        let rust = ident.unraw().to_string();
        let name = |rename: &Option<String>, case: Option<Case>| match (rename, case) {
            (Some(name), _) => name.clone(),
            (None, Some(case)) => apply(case, &rust),
            (None, None) => rust.clone(),
        };
        let de = name(&rename.de, cases.de);
        Self {
            ser: name(&rename.ser, cases.ser),
            known: [&de]
                .into_iter()
                .chain(&rename.more)
                .chain(aliases)
                .cloned()
                .collect(),
            de,
        }
    }

    /// The name of a field that has none: its position, as it stands in an error's path.
    fn of_element(index: u32) -> Self {
        let place = format!("[{index}]");
        Self {
            ser: place.clone(),
            de: place,
            known: BTreeSet::new(),
        }
    }
}

/// Returns the type's parameters as they are written on an `impl` for another type.
fn without_defaults(mut generics: Generics) -> Generics {
    for param in &mut generics.params {
        match param {
            GenericParam::Type(param) => param.default = None,
            GenericParam::Const(param) => param.default = None,
            GenericParam::Lifetime(_) => {}
        }
    }
    generics
}

/// Returns a type with its parameters.
fn with_parameters(ident: &Ident, generics: &Generics) -> TokenStream {
    let (_, params, _) = generics.split_for_impl();
    quote!(#ident #params)
}

/// The lifetimes that a field borrows: those that serde's `borrow` names, and without it those of `&str` and `&[u8]`.
fn borrowed(ty: &Type, attrs: &FieldAttrs) -> BTreeSet<Lifetime> {
    match &attrs.borrow {
        Some((_, named)) if !named.is_empty() => named.clone(),
        None if !(is_lent(ty) || argument_of(ty, "Option").is_some_and(is_lent)) => BTreeSet::new(),
        _ => lifetimes(ty),
    }
}

/// Returns true for `&str` and `&[u8]`, which can only be borrowed.
fn is_lent(ty: &Type) -> bool {
    matches!(ty, Type::Reference(to) if to.mutability.is_none() && is_text_or_bytes(&to.elem))
}
