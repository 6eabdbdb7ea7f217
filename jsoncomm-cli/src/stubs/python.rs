//! A client in Python, for the module `jsoncomm` in the examples.

use super::{camel, comment, services, snake};
use jsoncomm::fds::FdKind;
use jsoncomm::openrpc::{Document, Member, Method, Type};

const RESERVED: [&str; 42] = [
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
    "self",
    "timeout",
    "jsoncomm",
    "params",
    "connection",
    "int",
    "str",
];

/// The beginning of every client.
const HEAD: &str = r#"
from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, Protocol, Tuple, TypedDict, Union

import jsoncomm


class HasFileno(Protocol):
    """Whatever can be sent as a descriptor: an open file, a socket, a jsoncomm.Fd."""

    def fileno(self) -> int: ...

"#;

pub(crate) fn write(document: &Document, methods: &[&Method]) -> String {
    let title = format!("Clients of {}.", document.title);
    let mut out = format!("{}\n{HEAD}", text(&title));
    for one in document.types_of(methods) {
        for line in comment(&one.docs) {
            out.push_str(&format!("\n# {line}"));
        }
        let name = camel(&one.name, &RESERVED);
        match &one.ty {
            Type::Object(members) => {
                let all = members.iter().all(|member| member.always);
                let total = if all { "" } else { ", total=False" };
                out.push_str(&format!("\n{name} = TypedDict({}, {{\n", text(&name)));
                for Member { name, ty, .. } in members {
                    let (kind, ty) = (note(ty), received(ty));
                    out.push_str(&format!("    {}: {},{kind}\n", text(name), text(&ty)));
                }
                out.push_str(&format!("}}{total})\n"));
            }
            other => out.push_str(&format!("\n{name} = {}{}\n", alias(other), note(other))),
        }
    }
    for (service, methods) in services(methods) {
        let name = camel(service, &RESERVED);
        out.push_str(&format!("\n\nclass {name}:\n"));
        out.push_str(&format!(
            "    {}\n\n",
            text(&format!("The service {service}."))
        ));
        out.push_str("    def __init__(self, connection: jsoncomm.Connection) -> None:\n");
        out.push_str("        self.connection = connection\n");
        methods
            .into_iter()
            .for_each(|method| put_method(&mut out, method));
    }
    out
}

fn put_method(out: &mut String, method: &Method) {
    let name = snake(method.parts().1, &RESERVED);
    let (kind, returns, timeout) = match (&method.result, method.stream) {
        (None, _) => ("notify", "None", ""),
        (Some(_), true) => ("stream", "jsoncomm.Items", ", timeout"),
        (Some(_), false) => ("call", "jsoncomm.Message", ", timeout"),
    };
    let (always, maybe): (Vec<_>, Vec<_>) = method.params.iter().partition(|param| param.always);
    let argument = |member: &&Member| snake(&member.name, &RESERVED);
    let mut arguments = vec![String::from("self")];
    for param in &always {
        arguments.push(format!("{}: {}", argument(param), sent(&param.ty)));
    }
    for param in &maybe {
        let ty = match &param.ty {
            Type::Nullable(ty) => sent(ty),
            ty => sent(ty),
        };
        arguments.push(format!("{}: Optional[{ty}] = None", argument(param)));
    }
    if !timeout.is_empty() {
        arguments.push(String::from("timeout: Optional[float] = None"));
    }
    let arguments = arguments.join(", ");
    out.push_str(&format!("\n    def {name}({arguments}) -> {returns}:\n"));
    let value = match &method.result {
        Some(result) if method.stream => format!("The value of each item: {}.", received(result)),
        Some(result) => format!("The value of the reply: {}.", received(result)),
        None => String::from("There is no reply."),
    };
    let asked = method
        .params
        .iter()
        .filter(|param| param.ty.kind() != FdKind::ANY);
    let asked = asked.map(|param| format!(" `{}` is {}.", argument(&param), param.ty.kind()));
    let docs = format!("{}{} {value}", method.docs, asked.collect::<String>());
    out.push_str(&format!("        {}\n", text(docs.trim_start())));
    let members: Vec<String> = always
        .iter()
        .map(|param| format!("{}: {}", text(&param.name), argument(param)))
        .collect();
    out.push_str(&format!(
        "        params: Dict[str, Any] = {{{}}}\n",
        members.join(", ")
    ));
    for param in &maybe {
        let (name, argument) = (text(&param.name), argument(param));
        out.push_str(&format!("        if {argument} is not None:\n"));
        out.push_str(&format!("            params[{name}] = {argument}\n"));
    }
    let returning = if returns == "None" { "" } else { "return " };
    let whole = text(&method.name);
    out.push_str(&format!(
        "        {returning}self.connection.{kind}({whole}, params{timeout})\n"
    ));
}

/// Returns the comment that says what descriptors in a type are; nothing if they can be anything.
fn note(ty: &Type) -> String {
    match ty.kind() {
        FdKind::ANY => String::new(),
        kind => format!("  # {kind}"),
    }
}

/// What a descriptor is among arguments.
const SENT: &str = "HasFileno";

/// Formats a type that is received: a descriptor is its index, by which `Message.fd` or `Message.connection` finds it.
fn received(ty: &Type) -> String {
    write_type(ty, "int")
}

/// Formats a type that is sent.
fn sent(ty: &Type) -> String {
    write_type(ty, SENT)
}

/// Formats a type as the right side of an alias, where other names are not defined yet.
fn alias(ty: &Type) -> String {
    match ty {
        Type::Named(_) => format!("Union[{}]", text(&received(ty))),
        Type::OneOf(all) => {
            let all: Vec<_> = all.iter().map(alias).collect();
            format!("Union[{}]", all.join(", "))
        }
        Type::Nullable(ty) => format!("Optional[{}]", alias(ty)),
        Type::List(ty, _) => format!("List[{}]", alias(ty)),
        Type::Map(ty) => format!("Dict[str, {}]", alias(ty)),
        Type::Tuple(all) if !all.is_empty() => {
            let all: Vec<_> = all.iter().map(alias).collect();
            format!("Tuple[{}]", all.join(", "))
        }
        other => received(other),
    }
}

fn write_type(ty: &Type, descriptor: &str) -> String {
    let inner = |ty: &Type| write_type(ty, descriptor);
    let all = |all: &[Type]| all.iter().map(inner).collect::<Vec<_>>().join(", ");
    match ty {
        Type::Null => String::from("None"),
        Type::Boolean => String::from("bool"),
        Type::Integer { .. } => String::from("int"),
        Type::Number => String::from("float"),
        Type::Text => String::from("str"),
        Type::Descriptor(_) => descriptor.to_owned(),
        Type::Endpoint(_) if descriptor == SENT => String::from("jsoncomm.Connection"),
        Type::Endpoint(_) => descriptor.to_owned(),
        Type::Word(word) => format!("Literal[{}]", text(word)),
        Type::List(item, _) => format!("List[{}]", inner(item)),
        Type::Tuple(items) if !items.is_empty() => format!("Tuple[{}]", all(items)),
        Type::Tuple(_) => String::from("List[Any]"),
        Type::Map(value) => format!("Dict[str, {}]", inner(value)),
        // It has no name.
        Type::Object(_) => String::from("Dict[str, Any]"),
        Type::Named(name) => camel(name, &RESERVED),
        Type::Nullable(ty) => format!("Optional[{}]", inner(ty)),
        Type::OneOf(types) => format!("Union[{}]", all(types)),
        _ => String::from("Any"),
    }
}

/// Formats a string literal.
fn text(text: &str) -> String {
    let mut literal = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            ' '..='~' => literal.push(character),
            other => literal.push_str(&format!("\\U{:08x}", u32::from(other))),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_literal_cannot_be_escaped_from() {
        assert_eq!(text("a\"\\\n\u{1b}ä"), r#""a\"\\\n\U0000001b\U000000e4""#);
    }
}
