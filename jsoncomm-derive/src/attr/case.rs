//! serde's `rename_all`: from Rust's case to the wire's.

/// One of serde's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    /// The rules by their names in attributes.
    pub(crate) const ALL: [(&'static str, Self); 8] = [
        ("lowercase", Self::Lower),
        ("UPPERCASE", Self::Upper),
        ("PascalCase", Self::Pascal),
        ("camelCase", Self::Camel),
        ("snake_case", Self::Snake),
        ("SCREAMING_SNAKE_CASE", Self::ScreamingSnake),
        ("kebab-case", Self::Kebab),
        ("SCREAMING-KEBAB-CASE", Self::ScreamingKebab),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, case)| *case)
    }

    /// Renames an enum's variant, which is in `PascalCase`.
    pub(crate) fn variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => with_first(name, char::to_ascii_lowercase),
            _ => self.field(&snake(name)),
        }
    }

    /// Renames a field, which is in `snake_case`.
    pub(crate) fn field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => pascal(name),
            Self::Camel => with_first(&pascal(name), char::to_ascii_lowercase),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn pascal(name: &str) -> String {
    let words = name.split('_');
    words
        .map(|word| with_first(word, char::to_ascii_uppercase))
        .collect()
}

/// Changes the first letter.
fn with_first(word: &str, change: fn(&char) -> char) -> String {
    let mut letters = word.chars();
    let first = letters.next().as_ref().map(change);
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each rule, with what it makes of `VeryTasty` and of `very_tasty`.
    const TASTY: [(&str, &str, &str); 8] = [
        ("lowercase", "verytasty", "very_tasty"),
        ("UPPERCASE", "VERYTASTY", "VERY_TASTY"),
        ("PascalCase", "VeryTasty", "VeryTasty"),
        ("camelCase", "veryTasty", "veryTasty"),
        ("snake_case", "very_tasty", "very_tasty"),
        ("SCREAMING_SNAKE_CASE", "VERY_TASTY", "VERY_TASTY"),
        ("kebab-case", "very-tasty", "very-tasty"),
        ("SCREAMING-KEBAB-CASE", "VERY-TASTY", "VERY-TASTY"),
    ];

    #[test]
    fn variants_and_fields_are_renamed_as_serde_does() {
        for (rule, variant, field) in TASTY {
            let case = Case::from_name(rule).unwrap();
            assert_eq!(case.variant("VeryTasty"), variant, "{rule}");
            assert_eq!(case.field("very_tasty"), field, "{rule}");
        }
        assert_eq!(Case::Snake.variant("Z42"), "z42");
        assert_eq!(
            Case::Camel.variant("Äpfel"),
            "Äpfel",
            "only ASCII, as in serde"
        );
    }

    #[test]
    fn a_rename_rule_is_found_by_its_exact_name() {
        assert_eq!(
            Case::ALL.map(|(name, _)| name),
            TASTY.map(|(name, ..)| name)
        );
        assert_eq!(Case::from_name("Snake_Case"), None);
    }
}
