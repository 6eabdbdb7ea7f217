//! The words of `#[fd(...)]`: what a field asks of its descriptors.

use crate::ctxt::Ctxt;
use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// A word, and the constant of the library's `FdKind` that it stands for.
const WORDS: [(&str, &str); 13] = [
    ("regular", "REGULAR"),
    ("directory", "DIRECTORY"),
    ("pipe", "PIPE"),
    ("memfd", "MEMFD"),
    ("memfd(sealed)", "SEALED_MEMFD"),
    ("pidfd", "PIDFD"),
    ("socket", "SOCKET"),
    ("socket(stream)", "STREAM_SOCKET"),
    ("socket(datagram)", "DATAGRAM_SOCKET"),
    ("socket(seqpacket)", "SEQPACKET_SOCKET"),
    ("read", "READ"),
    ("write", "WRITE"),
    ("path", "PATH"),
];

/// Returns the error for a word that is none of them.
fn expected() -> String {
    let known = WORDS.map(|(word, _)| format!("`{word}`"));
    format!("expected one of {}", known.join(", "))
}

/// What `#[fd(...)]` asks for; nothing with `#[fd]`.
#[derive(Default, Clone)]
pub(crate) struct Kinds(pub(crate) Vec<Kind>);

/// One word of it.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) word: &'static str,
    constant: &'static str,
    /// Where it stands, for errors.
    pub(crate) meta: Meta,
}

impl Kind {
    /// Returns true for how a descriptor is open, false for what it is.
    pub(crate) fn is_access(&self) -> bool {
        ["read", "write", "path"].contains(&self.word)
    }

    /// Returns the word without what is in parentheses.
    pub(crate) fn noun(&self) -> &'static str {
        self.word.split('(').next().unwrap_or(self.word)
    }
}

impl Kinds {
    /// Adds the words of an attribute. One that is not known is reported.
    pub(crate) fn read(&mut self, cx: &Ctxt, attribute: &Attribute) {
        let Meta::List(list) = &attribute.meta else {
            return;
        };
        let words = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        let Ok(words) = words else {
            return cx.error(&list.tokens, expected());
        };
        if words.is_empty() {
            cx.error(list, "write `#[fd]` for any descriptor");
        }
        for meta in words {
            let said: String = meta.to_token_stream().to_string();
            let said = said.replace(' ', "");
            match WORDS.iter().find(|(word, _)| *word == said) {
                Some((word, constant)) => self.0.push(Kind {
                    word,
                    constant,
                    meta,
                }),
                None => cx.error(meta, expected()),
            }
        }
    }

    /// Returns the value of the library's type; `None` for any descriptor.
    pub(crate) fn value(&self) -> Option<TokenStream> {
        let mut constants = self.0.iter().map(|kind| {
            let constant = format_ident!("{}", kind.constant);
            quote!(__p::FdKind::#constant)
        });
        let first = constants.next()?;
        Some(quote!(#first #(.and(#constants))*))
    }
}
