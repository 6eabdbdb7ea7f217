//! The `#[test]` that is watched; see `jsoncomm-watchdog`, which has what it calls.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// A test that has a deadline: what `#[test]` of the standard library is, with a watch as the first statement.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    if let Some(TokenTree::Group(body)) = tokens.last_mut() {
        if body.delimiter() == Delimiter::Brace {
            let mut statements = source("let _watch = ::jsoncomm_watchdog::watch();");
            statements.extend(body.stream());
            let mut watched = Group::new(Delimiter::Brace, statements);
            watched.set_span(body.span());
            *body = watched;
        }
    }
    let mut output = source("#[::core::prelude::v1::test]");
    output.extend(tokens);
    output
}

/// Reads tokens that are written here.
fn source(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}
