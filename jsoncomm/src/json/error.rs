//! Why a text cannot be read as a value, or a value cannot be written as text.

use super::clip;
use crate::error::{DecodeError, EncodeError};
use serde::de::{Expected, Unexpected, value};
use std::fmt::{self, Display};

/// A cause, and the path to the value that is to blame. One pointer in size, since each `Result` holds room for it.
#[derive(Debug)]
pub(crate) struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    cause: Cause,
    /// The path to the value, such as `items[3].file`; empty for the whole.
    path: String,
    /// The value was skipped: the name before it is no member's of the type.
    skipped: bool,
}

#[derive(Debug)]
pub(super) enum Cause {
    /// The text is not JSON; with line and column.
    Syntax(String),
    /// More arrays and objects than this are open at once.
    TooDeep(usize),
    /// A float is NaN or infinite.
    NotFinite,
    /// The value is not one of the type, or the type refuses it.
    Data(String),
}

impl Error {
    #[cold]
    pub(super) fn new(cause: Cause) -> Self {
        Self(Box::new(Inner {
            cause,
            path: String::new(),
            skipped: false,
        }))
    }

    /// Makes the error of a value that is not of the type.
    #[cold]
    pub(super) fn data(reason: impl Display) -> Self {
        Self::new(Cause::Data(reason.to_string()))
    }

    /// Puts the member that the value stands in before the path, unless the value was skipped.
    #[cold]
    pub(super) fn within(mut self, member: &str) -> Self {
        let Inner { path, skipped, .. } = &mut *self.0;
        if std::mem::take(skipped) {
            return self;
        }
        if !path.is_empty() && !path.starts_with('[') {
            path.insert(0, '.');
        }
        path.insert_str(0, clip(member));
        self
    }

    /// Puts an element's index before the path, unless the value was skipped.
    #[cold]
    pub(super) fn within_element(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    /// Marks the value as one that its reader skips.
    #[cold]
    pub(super) fn in_skipped(mut self) -> Self {
        self.0.skipped = true;
        self
    }

    /// Returns true if no member of the value is to blame, but the value as a whole.
    pub(super) fn is_of_whole(&self) -> bool {
        self.0.path.is_empty()
    }

    fn reason(&self) -> String {
        match &self.0.cause {
            Cause::Syntax(reason) | Cause::Data(reason) => reason.clone(),
            Cause::TooDeep(limit) => format!("nested deeper than {limit}"),
            Cause::NotFinite => String::from("not a finite number"),
        }
    }

    /// Returns the path to the value that is to blame; `None` for the whole.
    pub(crate) fn into_field(self) -> Option<String> {
        Some(self.0.path).filter(|path| !path.is_empty())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_of_whole() {
            write!(f, "{}: ", self.0.path)?;
        }
        f.write_str(&self.reason())
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: Display>(reason: T) -> Self {
        Self::data(reason)
    }
}

/// Makes the error of a value that is found in the place of another.
fn invalid(what: &str, found: Unexpected<'_>, expected: &dyn Expected) -> Error {
    Error::data(format_args!(
        "{what}: {}, expected {expected}",
        InJson(found)
    ))
}

/// Names a value in the words of JSON. A float is not repeated, and `Unexpected` not printed, as both link the code that
/// writes floats, 27 KiB in programs without any.
struct InJson<'a>(Unexpected<'a>);

impl Display for InJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(is) => write!(f, "boolean `{is}`"),
            Unexpected::Unsigned(number) => write!(f, "integer `{number}`"),
            Unexpected::Signed(number) => write!(f, "integer `{number}`"),
            Unexpected::Float(_) => f.write_str("floating point number"),
            Unexpected::Char(letter) => write!(f, "character `{letter}`"),
            Unexpected::Str(text) => write!(f, "string {text:?}"),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Seq => f.write_str("sequence"),
            Unexpected::Map => f.write_str("map"),
            Unexpected::Other(other) => f.write_str(other),
            Unexpected::Bytes(_) => f.write_str("byte array"),
            Unexpected::Option => f.write_str("Option value"),
            Unexpected::NewtypeStruct => f.write_str("newtype struct"),
            Unexpected::Enum => f.write_str("enum"),
            Unexpected::UnitVariant => f.write_str("unit variant"),
            Unexpected::NewtypeVariant => f.write_str("newtype variant"),
            Unexpected::TupleVariant => f.write_str("tuple variant"),
            Unexpected::StructVariant => f.write_str("struct variant"),
        }
    }
}

impl serde::de::Error for Error {
    fn custom<T: Display>(reason: T) -> Self {
        Self::data(reason)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        invalid("invalid type", found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        invalid("invalid value", found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::data(value::Error::unknown_field(field, expected)).within(field)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::data(value::Error::missing_field(field)).within(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::data(value::Error::duplicate_field(field)).within(field)
    }
}

impl From<Error> for DecodeError {
    #[cold]
    fn from(error: Error) -> Self {
        match error.0.cause {
            Cause::Syntax(reason) => Self::Syntax { reason },
            Cause::TooDeep(limit) => Self::TooDeep { limit },
            Cause::NotFinite | Cause::Data(_) => {
                let whole = error.reason();
                let clipped = clip(&whole);
                let more = if clipped.len() < whole.len() {
                    "…"
                } else {
                    ""
                };
                Self::Shape {
                    reason: format!("{clipped}{more}"),
                    field: error.into_field(),
                }
            }
        }
    }
}

impl From<Error> for EncodeError {
    #[cold]
    fn from(error: Error) -> Self {
        match error.0.cause {
            Cause::TooDeep(limit) => Self::TooDeep { limit },
            Cause::NotFinite => Self::NotFinite {
                field: error.into_field(),
            },
            Cause::Syntax(_) | Cause::Data(_) => Self::Json {
                reason: error.reason(),
                field: error.into_field(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::Error as _;

    #[test]
    fn a_path_grows_outwards() {
        let error = Error::missing_field("file").within_element(3);
        let error = error.within("items").within("reply");
        assert_eq!(
            error.to_string(),
            "reply.items[3].file: missing field `file`"
        );
        assert_eq!(error.into_field().unwrap(), "reply.items[3].file");
    }

    #[test]
    fn a_path_leaves_out_the_name_of_a_skipped_value() {
        let error = Error::data("bad").in_skipped().within("stranger");
        assert_eq!(error.within("known").into_field().unwrap(), "known");
    }
}
