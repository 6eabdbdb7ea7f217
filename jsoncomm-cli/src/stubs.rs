//! Typed clients, generated from the description of a service.
//!
//! Text from a service becomes source code here. Names are reduced to valid identifiers, and everything else is quoted or
//! made a one-line comment, so that a hostile service cannot insert code.

mod python;
mod rust;

pub(crate) use python::write as python;
pub(crate) use rust::write as rust;

/// Converts a name to snake case. An underscore follows one that is a keyword.
fn snake(name: &str, reserved: &[&str]) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && snake.ends_with(|c: char| c.is_ascii_lowercase()) {
            snake.push('_');
        }
        if character.is_ascii_alphanumeric() {
            snake.push(character.to_ascii_lowercase())
        } else {
            snake.push('_')
        }
    }
    finished(snake, reserved)
}

/// Converts a name to camel case.
fn camel(name: &str, reserved: &[&str]) -> String {
    let mut camel = String::new();
    let mut begins = true;
    for character in name.chars() {
        match character {
            c if c.is_ascii_alphanumeric() && begins => camel.push(c.to_ascii_uppercase()),
            c if c.is_ascii_alphanumeric() => camel.push(c),
            _ => {}
        }
        begins = !character.is_ascii_alphanumeric();
    }
    finished(camel, reserved)
}

fn finished(mut name: String, reserved: &[&str]) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.trim_matches('_').is_empty() {
        name.insert(0, 'x');
    }
    if reserved.contains(&&*name) {
        name.push('_');
    }
    name
}

/// Splits a comment into lines.
fn comment(docs: &str) -> impl Iterator<Item = String> {
    docs.lines()
        .map(|line| crate::output::printable(line.trim_end()).into_owned())
}

/// Groups methods by service.
fn services<'m>(
    methods: &[&'m jsoncomm::openrpc::Method],
) -> Vec<(&'m str, Vec<&'m jsoncomm::openrpc::Method>)> {
    let mut services: Vec<(&str, Vec<_>)> = Vec::new();
    for method in methods {
        let (service, _) = method.parts();
        match services.iter_mut().find(|(name, _)| *name == service) {
            Some((_, all)) => all.push(*method),
            None => services.push((service, vec![*method])),
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_service_becomes_a_valid_identifier() {
        assert_eq!(snake("byteLen", &[]), "byte_len");
        assert_eq!(snake("type", &["type"]), "type_");
        assert_eq!(snake("a-b.c\n\"", &[]), "a_b_c__");
        assert_eq!(snake("7up", &[]), "x7up");
        assert_eq!(snake("", &[]), "x");
        assert_eq!(snake("é", &[]), "x_");
        assert_eq!(camel("test.shelf_error", &[]), "TestShelfError");
        assert_eq!(camel("Line.written", &[]), "LineWritten");
        assert_eq!(camel("()", &[]), "x");
    }
}
