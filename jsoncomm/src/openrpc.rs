//! Reading the documents that services describe themselves by, and judging what changes between two of them mean.
//!
//! [`describe`](crate::describe) writes a document; here programs read one, of whatever service, and [`compare`] two: the one
//! that yesterday's clients were built with, and today's. The command `jsoncomm compat` does so from a shell.
//!
//! # A test that holds a service to a document
//!
//! [`assert_document`] fails while a service differs from a document that is kept beside the code, and tells what each change means
//! for clients and servers that were built before it:
//!
//! ```no_run
//! # #[jsoncomm::service(name = "example.clock")]
//! # pub trait Clock { fn now(&mut self) -> u64; }
//! # /*
//! #[test]
//! fn yesterdays_clients_are_served() {
//! # */
//!     jsoncomm::openrpc::assert_document::<dyn Clock>("clock.json");
//! # /*
//! }
//! # */
//! ```
//!
//! # What a change means
//!
//! | change | old clients | old servers |
//! |---|---|---|
//! | a new method | works | fails if used |
//! | a new argument that may be left out | works | fails if used |
//! | a new argument that must be given, or one that is gone | breaks | breaks |
//! | a method with a new name and its old one as an alias | works | breaks |
//! | an argument that takes more: a wider integer, a new variant, fewer kinds of descriptors asked for | works | fails if used |
//! | an argument that takes less | breaks | works |
//! | a result with a new member | works | breaks, unless the member is an `Option` |
//! | a result, an item or an error with a new variant | breaks, unless the enum has a variant for [others](crate::Message) | works |
//! | a result with a type of fewer values | works | breaks |
//!
//! An old *server* matters where a new client may meet it: where services are upgraded one by one, or after the clients.

mod compare;
mod document;
mod node;
mod relation;
mod types;

pub use compare::{Change, Verdict, compare};
pub use document::{Definition, Document, Failure, Method, NotDocument};
pub use types::{Member, Type};

use std::path::Path;

use crate::describe::Describe;

/// The environment variable that has [`assert_document`] write documents anew.
pub const WRITE: &str = "JSONCOMM_WRITE_DOCUMENTS";

/// Asserts that a file has the document of a service or an enum of requests, as [`open_rpc`](crate::describe::Description::open_rpc)
/// writes it. For tests; a relative path is relative to the package that `cargo test` tests.
///
/// With the environment variable `JSONCOMM_WRITE_DOCUMENTS` set to 1, writes the file instead.
///
/// # Panics
///
/// If the file differs, with all changes and what they mean; if it cannot be read, is no document, or cannot be written.
///
/// # Examples
///
/// At the [module](crate::openrpc).
#[track_caller]
#[allow(clippy::panic, reason = "it asserts")]
pub fn assert_document<T: Describe + ?Sized>(path: impl AsRef<Path>) {
    let (path, new) = (path.as_ref(), T::DESCRIPTION.open_rpc());
    let write = std::env::var_os(WRITE).is_some_and(|value| value == "1");
    match check(path, &new, write) {
        Ok(()) => {}
        Err(problem) => panic!("{}: {problem}", path.display()),
    }
}

fn check(path: &Path, new: &str, write: bool) -> Result<(), String> {
    if write {
        return std::fs::write(path, new).map_err(|error| error.to_string());
    }
    let hint = format!("{WRITE}=1 writes it anew");
    let old = std::fs::read_to_string(path).map_err(|error| format!("{error}; {hint}"))?;
    if old == new {
        return Ok(());
    }
    let parse = |text| Document::parse(text).map_err(|error| format!("{error}; {hint}"));
    let changes = compare(&parse(&old)?, &parse(new)?);
    let lines: Vec<_> = changes
        .iter()
        .map(|change| format!("\n  {change}"))
        .collect();
    let what = if lines.is_empty() {
        "the documentation of the service has changed"
    } else {
        "the service has changed"
    };
    Err(format!("{what}; {hint}{}", lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(method: &str, docs: &str) -> String {
        format!(
            r#"{{"openrpc":"1.3.2","methods":[{{"name":"a.{method}","summary":"{docs}","params":[],"result":{{"schema":{{}}}}}}]}}"#
        )
    }

    #[test]
    fn a_service_is_held_to_its_document_until_that_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let told = |new: &str| check(&path, new, false).unwrap_err();
        assert!(told(&document("b", "")).ends_with("JSONCOMM_WRITE_DOCUMENTS=1 writes it anew"));
        check(&path, &document("b", ""), true).unwrap();
        check(&path, &document("b", ""), false).unwrap();
        let more = told(&document("b", "More."));
        assert!(
            more.starts_with("the documentation of the service has changed"),
            "{more}"
        );
        let lines = told(&document("c", ""));
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(
            lines[1..],
            [
                "  a.b: the method is gone (old clients: breaks, old servers: works)",
                "  a.c: a new method (old clients: works, old servers: fails if used)",
            ]
        );
        std::fs::write(&path, "[]").unwrap();
        assert!(told(&document("b", "")).starts_with("the document has no list of methods"));
        std::fs::write(&path, "{").unwrap();
        assert!(told(&document("b", "")).starts_with("the document is not JSON"));
    }

    #[test]
    fn a_document_of_another_program_is_compared_without_an_end_or_a_panic() {
        // A type that is nothing but itself, one that nobody describes, and forms that no document of ours has.
        let strange = r##"{"methods":[{"name":"a.b","params":[{"name":"x","schema":{"$ref":"#/components/schemas/A"}},
            {"name":"y","schema":{"$ref":"elsewhere"}},{"schema":{}},{"name":"z","schema":{"oneOf":[{"enum":[1,"b"]},{"const":2}]}}],
            "errors":[{"code":1e99,"data":{"type":["string"]}}]}, {}, 7],
            "components":{"schemas":{"A":{"$ref":"#/components/schemas/B"},"B":{"$ref":"#/components/schemas/A"}}}}"##;
        let strange = Document::parse(strange).unwrap();
        assert_eq!(strange.methods.len(), 1);
        assert_eq!(compare(&strange, &strange), []);
        let plain = Document::parse(&document("b", "")).unwrap();
        assert!(!compare(&strange, &plain).is_empty());
        assert!(!compare(&plain, &strange).is_empty());
        assert!(Document::parse(&"[".repeat(1000)).is_err());
        // Each contains itself, in another way than the other does.
        let endless = |schema: &str| {
            let text = format!(
                r##"{{"methods":[{{"name":"a.b","result":{{"schema":{{"$ref":"#/components/schemas/A"}}}}}}],
                "components":{{"schemas":{{"A":{schema}}}}}}}"##
            );
            Document::parse(&text).unwrap()
        };
        let own = r##"{"$ref":"#/components/schemas/A"}"##;
        let nullable = endless(&format!(r#"{{"anyOf":[{own},{{"type":"null"}}]}}"#));
        let list = endless(&format!(r#"{{"type":"array","items":{own}}}"#));
        let one = endless(&format!(r#"{{"anyOf":[{own},{own}]}}"#));
        for old in [&nullable, &list, &one] {
            for new in [&nullable, &list, &one] {
                assert_eq!(compare(old, new).is_empty(), old == new);
            }
        }
    }
}
