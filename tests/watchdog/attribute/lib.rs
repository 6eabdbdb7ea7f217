//! The `#[test]` that is watched; see `jsoncomm-watchdog`, which has what it calls.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// A test with a time limit: std's `#[test]`, with the watchdog as its first statement.
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

/// Parses tokens.
fn source(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}
