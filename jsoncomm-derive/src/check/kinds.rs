//! Whether a descriptor can be all that `#[fd(...)]` asks for.

use crate::ast::Field;
use crate::ast::types::{argument_of, descriptor};
use crate::attr::Kind;
use crate::ctxt::Ctxt;
use syn::Type;

/// Reports words that contradict each other or the type. For fields and arguments.
pub(super) fn kinds(cx: &Ctxt, field: &Field) {
    let all = &field.attrs.kinds.0;
    let mut before: Vec<&Kind> = Vec::new();
    for kind in all {
        let other = before.iter().find_map(|other| contradiction(kind, other));
        if let Some(text) = other.or_else(|| of_type(kind, &field.ty)) {
            cx.error(&kind.meta, text);
        }
        before.push(kind);
    }
}

/// Returns why a descriptor cannot be one and the other, or need not be asked for both.
fn contradiction(kind: &Kind, other: &Kind) -> Option<String> {
    let (word, before) = (kind.word, other.word);
    if word == before {
        return Some(format!("`{word}` stands here twice"));
    }
    let is = |one: &str| word == one || before == one;
    let (noun, access) = match (kind.is_access(), other.is_access()) {
        (false, false) => {
            let text = format!("a descriptor is of one kind: remove `{before}` or `{word}`");
            return Some(text);
        }
        (true, true) if is("path") => {
            let text = "`path` is open for neither reading nor writing: remove one of the two";
            return Some(String::from(text));
        }
        (true, true) => return None,
        (false, true) => (kind.noun(), before),
        (true, false) => (other.noun(), word),
    };
    match (noun, access) {
        ("memfd" | "pidfd" | "socket", "path") => Some(format!(
            "`path` only leads to a file: it is no {noun}, which is open"
        )),
        ("directory", "write") => Some(String::from("a directory is not open for writing")),
        ("pidfd" | "socket", "read" | "write") => Some(format!(
            "a {noun} is always open for both: remove `{access}`"
        )),
        _ => None,
    }
}

/// Returns why a Rust type is never of the kind.
fn of_type(kind: &Kind, ty: &Type) -> Option<String> {
    let inside = argument_of(ty, "Option").or(argument_of(ty, "Vec"));
    let name = descriptor(inside.unwrap_or(ty))?.to_string();
    let noun = match &*name {
        "OwnedFd" | "BorrowedFd" | "File" => return None,
        pipe if pipe.starts_with("Child") || pipe.starts_with("Pipe") => "pipe",
        _ => "socket",
    };
    let fits = match kind.is_access() {
        true => noun == "pipe" && kind.word != "path",
        false => kind.noun() == noun,
    };
    (!fits).then(|| format!("a `{name}` is a {noun}, and is never `{}`", kind.word))
}
