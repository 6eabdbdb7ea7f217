//! Whether a type can be that of a field, an argument or a reply.

use crate::ctxt::Ctxt;
use syn::visit_mut::{self, VisitMut};
use syn::{Type, TypeParamBound, TypeTraitObject};

/// Refuses what syn reads as a type and Rust does not, however deep it stands: code that is generated with it would not
/// be Rust.
pub(super) fn spelled(cx: &Ctxt, ty: &Type) {
    struct Refuse<'a>(&'a Ctxt);

    impl VisitMut for Refuse<'_> {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            let Self(cx) = self;
            match ty {
                Type::TraitObject(object) if object.dyn_token.is_none() => {
                    let text = format!("a trait object needs `dyn`: write `dyn {}`", named(object));
                    cx.error(object, text);
                }
                Type::ImplTrait(_) => cx.error(ty, "write a type that has a name"),
                Type::Infer(_) => cx.error(ty, "write the type: it cannot be inferred here"),
                Type::Verbatim(_) => cx.error(ty, "write a type of stable Rust"),
                _ => visit_mut::visit_type_mut(self, ty),
            }
        }
    }

    Refuse(cx).visit_type_mut(&mut ty.clone());
}

/// Refuses a trait object as the whole of a type: what is read from a message has a size.
pub(super) fn sized(cx: &Ctxt, ty: &Type) {
    match ty {
        Type::TraitObject(object) if object.dyn_token.is_some() => {
            cx.error(object, "write a type with a size, such as a `Box` of this");
        }
        Type::Paren(inner) => sized(cx, &inner.elem),
        _ => {}
    }
}

/// Returns the name of the object's trait.
fn named(object: &TypeTraitObject) -> String {
    let of_trait = object.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last(),
        _ => None,
    });
    of_trait.map_or_else(|| "Name".to_owned(), |last| last.ident.to_string())
}
