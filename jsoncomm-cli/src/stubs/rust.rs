//! The traits and types of services in Rust, for clients and mocks.

use super::{camel, comment, services, snake};
use jsoncomm::fds::FdKind;
use jsoncomm::openrpc::{Document, Failure, Member, Method, Type};

const RESERVED: [&str; 56] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern",
    "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub",
    "ref", "return", "self", "Self", "static", "struct", "super", "trait", "true", "type",
    "unsafe", "use", "where", "while", "abstract", "become", "box", "do", "final", "gen", "macro",
    "override", "priv", "try", "typeof", "unsized", "virtual", "yield", "call", "start", "new",
    "OwnedFd",
];

pub(crate) fn write(document: &Document, methods: &[&Method]) -> String {
    let mut writer = Writer::default();
    let definitions = document.types_of(methods);
    for one in &definitions {
        writer.taken.push(camel(&one.name, &RESERVED));
        if document.has_descriptor(&one.ty) {
            writer.with_descriptors.push(one.name.clone());
        }
    }
    let replies: Vec<Method> = methods
        .iter()
        .map(|method| without_params(method))
        .collect();
    for one in document.types_of(&replies.iter().collect::<Vec<_>>()) {
        writer.received.push(one.name.clone());
    }
    let services = services(methods);
    for (service, _) in &services {
        let last = service.rsplit('.').next().unwrap_or_default();
        let name = writer.name(camel(last, &RESERVED));
        writer.traits.push(((*service).to_owned(), name));
    }
    let mut traits = String::new();
    for ((service, methods), (_, name)) in services.iter().zip(writer.traits.clone()) {
        writer.put_trait(&mut traits, service, &name, methods);
    }
    for one in definitions {
        let name = camel(&one.name, &RESERVED);
        writer.receives = writer.received.contains(&one.name);
        writer.put_definition(&name, &one.docs, &one.ty);
    }
    let title = format!("Services of {}.", document.title);
    let mut out: String = comment(&title)
        .map(|line| format!("//! {line}\n"))
        .collect();
    for errors in &writer.printed {
        writer.types.push_str(&format!(
            "\nimpl std::fmt::Display for {errors} {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n        write!(f, \"{{self:?}}\")\n    }}\n}}\n"
        ));
    }
    out.push('\n');
    out.push_str(&traits);
    out.push_str(&writer.types);
    out
}

/// The generated types, and their names.
#[derive(Debug, Default)]
struct Writer {
    types: String,
    taken: Vec<String>,
    /// The services, and the names of their traits.
    traits: Vec<(String, String)>,
    /// The definitions that contain descriptors, by their names in the document.
    with_descriptors: Vec<String>,
    /// The definitions that are errors, which get `Display`.
    printed: Vec<String>,
    /// The definitions that are in replies, by their names in the document.
    received: Vec<String>,
    /// The type that is written now is in replies. Its enums take variants that a newer service adds.
    receives: bool,
}

/// Returns what a method replies.
fn without_params(method: &Method) -> Method {
    let mut method = method.clone();
    method.params.clear();
    method
}

impl Writer {
    fn put_trait(&mut self, out: &mut String, service: &str, name: &str, methods: &[&Method]) {
        out.push_str(&format!(
            "/// The service `{service}`.\n#[jsoncomm::service(name = {})]\npub trait {name} {{\n",
            text(service),
            service = comment(service).collect::<Vec<_>>().join(" "),
        ));
        let mut known: Vec<(Vec<String>, String)> = Vec::new();
        for method in methods {
            put_docs(out, "    ", &method.docs);
            let own = method.parts().1;
            let called = snake(own, &RESERVED);
            if called != own {
                out.push_str(&format!("    #[serde(rename = {})]\n", text(own)));
            }
            self.receives = true;
            let error = self.error(name, method, &mut known);
            let reply = method.result.as_ref().map(|result| {
                let hint = format!("{}{}", camel(own, &RESERVED), "Reply");
                let ty = self.ty(result, &hint);
                if ty.contains("serde_json::Value") {
                    format!("jsoncomm::message::Json<{ty}>")
                } else {
                    ty
                }
            });
            let (returns, call) = match (reply, error) {
                (None, _) => {
                    out.push_str("    #[oneway]\n");
                    (String::new(), "")
                }
                (Some(item), error) if method.stream => {
                    let error = error.map_or_else(String::new, |error| format!(", {error}"));
                    let call = ", call: &mut jsoncomm::Call";
                    (format!(" -> jsoncomm::Stream<{item}{error}>"), call)
                }
                (Some(result), Some(error)) => (format!(" -> Result<{result}, {error}>"), ""),
                (Some(result), None) => {
                    let never = "std::convert::Infallible";
                    (format!(" -> Result<{result}, {never}>"), "")
                }
            };
            self.receives = false;
            let params: String = method
                .params
                .iter()
                .map(|param| self.argument(own, param))
                .collect();
            out.push_str(&format!(
                "    fn {called}(&mut self{call}{params}){returns};\n"
            ));
        }
        out.push_str("}\n");
    }

    /// Returns true if a value contains descriptors. Such types use only the library's traits.
    fn has_descriptor(&self, ty: &Type) -> bool {
        ty.any(&mut |ty| match ty {
            Type::Descriptor(_) | Type::Endpoint(_) => true,
            Type::Named(name) => self.with_descriptors.contains(name),
            _ => false,
        })
    }

    /// Returns the attribute of a field with descriptors, and what follows it; nothing for other fields.
    fn mark(&self, ty: &Type, end: &str) -> String {
        if !self.has_descriptor(ty) {
            return String::new();
        }
        let words: Vec<_> = ty.kind().words().filter(|word| *word != "device").collect();
        if words.is_empty() {
            return format!("#[fd]{end}");
        }
        format!("#[fd({})]{end}", words.join(", "))
    }

    fn argument(&mut self, method: &str, param: &Member) -> String {
        let called = snake(&param.name, &RESERVED);
        let hint = camel(&format!("{method}_{}", param.name), &RESERVED);
        let ty = self.ty(&param.ty, &hint);
        let mut marks = String::new();
        if called != param.name {
            marks.push_str(&format!("#[serde(rename = {})] ", text(&param.name)));
        }
        marks.push_str(&self.mark(&param.ty, " "));
        format!(", {marks}{called}: {ty}")
    }

    /// Returns the error type of a method. Methods with the same errors share one.
    fn error(
        &mut self,
        service: &str,
        method: &Method,
        known: &mut Vec<(Vec<String>, String)>,
    ) -> Option<String> {
        let errors = &method.errors;
        let [first, ..] = &**errors else { return None };
        let hint = if known.is_empty() {
            format!("{service}Error")
        } else {
            camel(&format!("{}_error", method.parts().1), &RESERVED)
        };
        if errors.len() == 1
            && variant(&first.data).is_none()
            && !matches!(first.data, Type::Any(_))
        {
            let ty = self.ty(&first.data, &hint);
            let is_ours = is_message(&first.data) && !self.printed.contains(&ty);
            if is_ours {
                self.printed.push(ty.clone());
            }
            return Some(ty);
        }
        let names: Vec<String> = errors.iter().map(|error| error.name.clone()).collect();
        if let Some((_, name)) = known.iter().find(|(known, _)| *known == names) {
            return Some(name.clone());
        }
        let name = self.name(hint);
        let variants = errors.iter().map(|Failure { name, data, .. }| match data {
            Type::Any(_) => Type::Word(name.clone()),
            data => data.clone(),
        });
        let variants: Vec<Type> = variants.collect();
        let docs = "Why a call is not carried out.";
        if variants.iter().all(|one| variant(one).is_some()) {
            self.put_enum(&name, docs, &variants)
        } else {
            let docs = format!("{docs} The variants are of a form that is not known here.");
            self.put_alias(&name, &docs, "String");
        }
        self.printed.push(name.clone());
        known.push((names, name.clone()));
        Some(name)
    }

    /// Returns an unused name.
    fn name(&mut self, mut name: String) -> String {
        while self.taken.contains(&name) {
            name.push('_');
        }
        self.taken.push(name.clone());
        name
    }

    /// Formats a type. One that needs a name and has none gets the hint.
    fn ty(&mut self, ty: &Type, hint: &str) -> String {
        match ty {
            Type::Null => String::from("()"),
            Type::Boolean => String::from("bool"),
            Type::Integer { least, most, .. } => integer(*least, *most).to_owned(),
            Type::Number => String::from("f64"),
            Type::Text => String::from("String"),
            Type::Descriptor(_) => String::from("std::os::fd::OwnedFd"),
            Type::Endpoint(service) => match self.traits.iter().find(|(of, _)| of == service) {
                Some((_, name)) => format!("{name}Client"),
                None => String::from("jsoncomm::Connection"),
            },
            Type::List(item, _) => format!("Vec<{}>", self.ty(item, &format!("{hint}Item"))),
            Type::Map(value) => {
                let value = self.ty(value, &format!("{hint}Value"));
                format!("std::collections::BTreeMap<String, {value}>")
            }
            Type::Nullable(ty) => format!("Option<{}>", self.ty(ty, hint)),
            Type::Tuple(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(index, ty)| self.ty(ty, &format!("{hint}{index}")) + ", ");
                format!("({})", items.collect::<String>())
            }
            Type::Named(name) => camel(name, &RESERVED),
            Type::Object(members) => {
                let name = self.name(hint.to_owned());
                self.put_struct(&name, "", members);
                name
            }
            Type::Word(_) => self.choice(std::slice::from_ref(ty), hint),
            Type::OneOf(all) => self.choice(all, hint),
            _ => String::from("serde_json::Value"),
        }
    }

    fn choice(&mut self, all: &[Type], hint: &str) -> String {
        let Some(all) = variants_of(all) else {
            return String::from("serde_json::Value");
        };
        let name = self.name(hint.to_owned());
        self.put_enum(&name, "", &all);
        name
    }

    fn put_definition(&mut self, name: &str, docs: &str, ty: &Type) {
        match ty {
            Type::Object(members) => self.put_struct(name, docs, members),
            Type::OneOf(all) if variants_of(all).is_some() => {
                self.put_enum(name, docs, &variants_of(all).unwrap_or_default());
            }
            other => {
                let ty = self.ty(other, &format!("{name}Value"));
                if other.kind() == FdKind::ANY {
                    self.put_alias(name, docs, &ty);
                } else {
                    let mark = self.mark(other, " ");
                    self.put_type(docs, &format!("struct {name}({mark}pub {ty});"));
                }
            }
        }
    }

    fn put_alias(&mut self, name: &str, docs: &str, ty: &str) {
        self.types.push('\n');
        put_docs(&mut self.types, "", docs);
        self.types.push_str(&format!("pub type {name} = {ty};\n"));
    }

    fn put_struct(&mut self, name: &str, docs: &str, members: &[Member]) {
        let members = self.members(name, members, "    pub ");
        self.put_type(docs, &format!("struct {name} {{\n{members}}}"));
    }

    /// Writes a type that is a message.
    fn put_type(&mut self, docs: &str, item: &str) {
        self.types.push('\n');
        put_docs(&mut self.types, "", docs);
        let derive = "#[derive(Debug, jsoncomm::Message)]";
        self.types.push_str(&format!("{derive}\npub {item}\n"));
    }

    fn put_enum(&mut self, name: &str, docs: &str, all: &[Type]) {
        let mut variants = String::new();
        for (word, content) in all.iter().filter_map(variant) {
            let called = camel(word, &RESERVED);
            if called != word {
                variants.push_str(&format!("    #[serde(rename = {})]\n", text(word)));
            }
            let hint = format!("{name}{called}");
            match content {
                None => variants.push_str(&format!("    {called},\n")),
                Some(Type::Object(members)) => {
                    let members = self.members(&hint, members, "        ");
                    variants.push_str(&format!("    {called} {{\n{members}    }},\n"));
                }
                Some(ty) => {
                    let mark = self.mark(ty, " ");
                    let ty = self.ty(ty, &hint);
                    variants.push_str(&format!("    {called}({mark}{ty}),\n"));
                }
            }
        }
        if self.receives {
            let mut other = String::from("Unknown");
            while all
                .iter()
                .filter_map(variant)
                .any(|(word, _)| camel(word, &RESERVED) == other)
            {
                other.push('_');
            }
            let unknown = "jsoncomm::message::UnknownVariant";
            variants.push_str(&format!("    #[message(other)]\n    {other}({unknown}),\n"));
        }
        self.put_type(docs, &format!("enum {name} {{\n{variants}}}"));
    }

    fn members(&mut self, of: &str, members: &[Member], before: &str) -> String {
        let indent = before.trim_end_matches("pub ");
        let mut out = String::new();
        for member in members {
            let called = snake(&member.name, &RESERVED);
            let mut ty = self.ty(
                &member.ty,
                &format!("{of}{}", camel(&member.name, &RESERVED)),
            );
            put_docs(&mut out, indent, &member.docs);
            if called != member.name {
                out.push_str(&format!(
                    "{indent}#[serde(rename = {})]\n",
                    text(&member.name)
                ));
            }
            if !member.always {
                out.push_str(&format!(
                    "{indent}#[serde(default, skip_serializing_if = \"Option::is_none\")]\n"
                ));
                if !ty.starts_with("Option<") {
                    ty = format!("Option<{ty}>");
                }
            }
            let mark = self.mark(&member.ty, "\n");
            if !mark.is_empty() {
                out.push_str(&format!("{indent}{mark}"));
            }
            out.push_str(&format!("{before}{called}: {ty},\n"));
        }
        out
    }
}

/// Returns the variants of an enum, without the one for all that it does not know; `None` if it is no enum.
fn variants_of(all: &[Type]) -> Option<Vec<Type>> {
    let known = all
        .iter()
        .filter(|one| !matches!(one, Type::Any(rust) if rust.is_empty()));
    let known: Vec<Type> = known.cloned().collect();
    let is_enum = !known.is_empty() && known.iter().all(|one| variant(one).is_some());
    is_enum.then_some(known)
}

/// Returns the name and content of a variant, if the type is one.
fn variant(ty: &Type) -> Option<(&str, Option<&Type>)> {
    match ty {
        Type::Word(word) => Some((word, None)),
        Type::Object(members) => match &**members {
            [member] if member.always => Some((&member.name, Some(&member.ty))),
            _ => None,
        },
        _ => None,
    }
}

/// Returns true if a value is a descriptor, or of a generated type.
fn is_message(ty: &Type) -> bool {
    match ty {
        Type::Descriptor(_)
        | Type::Endpoint(_)
        | Type::Named(_)
        | Type::Object(_)
        | Type::Word(_) => true,
        Type::OneOf(all) => all.iter().all(|one| variant(one).is_some()),
        Type::List(inner, _) | Type::Map(inner) | Type::Nullable(inner) => is_message(inner),
        Type::Tuple(all) => all.iter().any(is_message),
        _ => false,
    }
}

/// Returns the smallest integer type for these bounds; without bounds, one that every JSON reader can represent.
fn integer(least: Option<i128>, most: Option<i128>) -> &'static str {
    const TYPES: [(&str, i128, i128); 8] = [
        ("u8", 0, u8::MAX as i128),
        ("i8", i8::MIN as i128, i8::MAX as i128),
        ("u16", 0, u16::MAX as i128),
        ("i16", i16::MIN as i128, i16::MAX as i128),
        ("u32", 0, u32::MAX as i128),
        ("i32", i32::MIN as i128, i32::MAX as i128),
        ("u64", 0, u64::MAX as i128),
        ("i64", i64::MIN as i128, i64::MAX as i128),
    ];
    let unsigned = least.is_some_and(|least| least >= 0);
    let (least, most) = match (least, most) {
        (Some(least), Some(most)) => (least, most),
        _ if unsigned => return "u64",
        _ => return "i64",
    };
    let holds = |(_, from, to): &&(&str, i128, i128)| *from <= least && most <= *to;
    match TYPES.iter().find(holds) {
        Some((name, ..)) => name,
        None if unsigned => "u128",
        None => "i128",
    }
}

fn put_docs(out: &mut String, indent: &str, docs: &str) {
    for line in comment(docs) {
        out.push_str(format!("{indent}/// {line}").trim_end());
        out.push('\n');
    }
}

/// Formats a string literal.
fn text(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}
