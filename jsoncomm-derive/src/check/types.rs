//! What syn reads as a type and Rust does not accept as the type of a field, an argument or a reply.

use crate::ctxt::Ctxt;
use syn::punctuated::Punctuated;
use syn::{
    GenericArgument, Path, PathArguments, ReturnType, Token, Type, TypeParamBound, TypeTraitObject,
};

/// Refuses such types, however deep they stand in `ty`: the code generated for them would be no Rust.
pub(super) fn spelled(cx: &Ctxt, ty: &Type) {
    match ty {
        Type::TraitObject(object) if object.dyn_token.is_none() => {
            let text = format!("a trait object needs `dyn`: write `dyn {}`", named(object));
            return cx.complain(object, text);
        }
        Type::ImplTrait(_) => return cx.complain(ty, "write a type that has a name"),
        Type::Infer(_) => return cx.complain(ty, "write the type: it cannot be inferred here"),
        Type::Verbatim(_) => return cx.complain(ty, "write a type of stable Rust"),
        _ => {}
    }
    parts(ty, &mut |part| spelled(cx, part));
}

/// Refuses a trait object as the whole of a type: what is read from a message has a size.
pub(super) fn sized(cx: &Ctxt, ty: &Type) {
    match ty {
        Type::TraitObject(object) if object.dyn_token.is_some() => {
            cx.complain(object, "write a type with a size, such as a `Box` of this");
        }
        Type::Paren(inner) => sized(cx, &inner.elem),
        _ => {}
    }
}

/// The name of the object's trait, as an example.
fn named(object: &TypeTraitObject) -> String {
    let of_trait = object.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last(),
        _ => None,
    });
    of_trait.map_or_else(|| "Name".to_owned(), |last| last.ident.to_string())
}

/// Gives each type that a type is directly made of to `each`.
fn parts(ty: &Type, each: &mut dyn FnMut(&Type)) {
    match ty {
        Type::Array(array) => each(&array.elem),
        Type::Group(group) => each(&group.elem),
        Type::Paren(paren) => each(&paren.elem),
        Type::Ptr(pointer) => each(&pointer.elem),
        Type::Reference(reference) => each(&reference.elem),
        Type::Slice(slice) => each(&slice.elem),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(each),
        Type::FnPtr(function) => {
            function.inputs.iter().for_each(|input| each(&input.ty));
            returned(&function.output, each);
        }
        Type::Path(path) => {
            if let Some(qself) = &path.qself {
                each(&qself.ty);
            }
            arguments(&path.path, each);
        }
        Type::TraitObject(object) => bounds(&object.bounds, each),
        Type::ImplTrait(object) => bounds(&object.bounds, each),
        _ => {}
    }
}

fn bounds(all: &Punctuated<TypeParamBound, Token![+]>, each: &mut dyn FnMut(&Type)) {
    for bound in all {
        if let TypeParamBound::Trait(bound) = bound {
            arguments(&bound.path, each);
        }
    }
}

fn arguments(path: &Path, each: &mut dyn FnMut(&Type)) {
    for segment in &path.segments {
        match &segment.arguments {
            PathArguments::None => {}
            PathArguments::Parenthesized(of_function) => {
                of_function.inputs.iter().for_each(|input| each(&input.ty));
                returned(&of_function.output, each);
            }
            PathArguments::AngleBracketed(all) => {
                for argument in &all.args {
                    match argument {
                        GenericArgument::Type(ty) => each(ty),
                        GenericArgument::AssocType(associated) => each(&associated.ty),
                        GenericArgument::Constraint(constraint) => bounds(&constraint.bounds, each),
                        _ => {}
                    }
                }
            }
        }
    }
}

fn returned(output: &ReturnType, each: &mut dyn FnMut(&Type)) {
    if let ReturnType::Type(_, ty) = output {
        each(ty);
    }
}
