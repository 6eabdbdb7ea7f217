//! Paths to values inside JSON, as written on the command line and in the library's errors: `items[3].file`.

use std::fmt;
use std::str::FromStr;

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Member(String),
    Element(usize),
}

/// A place in a JSON value; `.` is the value itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Field(Vec<Step>);

/// The text is not a path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a field: write it as in items[3].file, or . for the whole value")]
pub(crate) struct NoField;

impl Field {
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }
}

impl FromStr for Field {
    type Err = NoField;

    fn from_str(text: &str) -> Result<Self, NoField> {
        let mut steps = Vec::new();
        let parts = text.split('.').filter(|_| text != ".");
        for part in parts {
            let (name, elements) = match part.find('[') {
                Some(place) => part.split_at(place),
                None => (part, ""),
            };
            match name {
                "" if elements.is_empty() || !steps.is_empty() => return Err(NoField),
                "" => {}
                name => steps.push(Step::Member(name.to_owned())),
            }
            for element in elements.split('[').skip(1) {
                let index = element
                    .strip_suffix(']')
                    .and_then(|index| index.parse().ok());
                steps.push(Step::Element(index.ok_or(NoField)?));
            }
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Member(name) if place == 0 => f.write_str(name)?,
                Step::Member(name) => write!(f, ".{name}")?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_printed_as_it_is_parsed() {
        for text in [".", "file", "a.b", "items[3].file", "[0]", "[0][1].x"] {
            let field: Field = text.parse().unwrap();
            assert_eq!(field.to_string(), text);
        }
        for text in ["", "a.", ".a", "a..b", "a[", "a[x]", "a[1]b", "a.[0]"] {
            assert_eq!(text.parse::<Field>(), Err(NoField), "{text}");
        }
    }
}
