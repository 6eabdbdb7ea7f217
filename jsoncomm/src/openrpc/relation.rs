//! How the values of two types relate, as far as that can be told without the types inside.

use super::document::Document;
use super::types::Type;
use crate::fds::FdKind;

/// Who reads a value: the server reads arguments, the client replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Argument,
    Reply,
}

/// How the values of two types relate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Relation {
    /// The new type has all values of the old one, and more.
    Wider,
    /// The old type has all values of the new one, and more.
    Narrower,
    /// No value of one is sure to be one of the other.
    Other,
}

/// Returns true for the name of a type that takes any JSON.
pub(super) fn is_any(rust: &str) -> bool {
    matches!(rust, "" | "Value")
}

/// Returns the variants of an enum, each with the name that tells it apart. Any other type is one without a name.
pub(super) fn variants_of<'d>(
    document: &'d Document,
    ty: &'d Type,
) -> Vec<(Option<&'d str>, &'d Type)> {
    let all = match ty {
        Type::OneOf(all) => &all[..],
        one => std::slice::from_ref(one),
    };
    let meaning = |ty| document.meaning(ty).unwrap_or(ty);
    let named = |ty: &'d Type| {
        let ty = meaning(ty);
        let name = match ty {
            Type::Word(word) => Some(word.as_str()),
            Type::Object(members) => {
                let tag = members.iter().find_map(|member| match &member.ty {
                    Type::Word(word) => Some(word.as_str()),
                    _ => None,
                });
                let only = match &members[..] {
                    [member] if member.always => Some(member.name.as_str()),
                    _ => None,
                };
                tag.or(only)
            }
            _ => None,
        };
        (name, ty)
    };
    all.iter().map(named).collect()
}

/// Returns how two ranges relate; `None` if they are the same.
pub(super) fn ranges(old: (i128, i128), new: (i128, i128)) -> Option<Relation> {
    if old == new {
        None
    } else if new.0 <= old.0 && old.1 <= new.1 {
        Some(Relation::Wider)
    } else if old.0 <= new.0 && new.1 <= old.1 {
        Some(Relation::Narrower)
    } else {
        Some(Relation::Other)
    }
}

/// Returns how two kinds of descriptors relate; `None` if they are the same.
pub(super) fn kinds(old: FdKind, new: FdKind) -> Option<Relation> {
    let both = old.and(new);
    if old == new {
        None
    } else if both == old {
        Some(Relation::Wider)
    } else if both == new {
        Some(Relation::Narrower)
    } else {
        Some(Relation::Other)
    }
}
