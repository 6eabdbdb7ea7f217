//! Errors, collected so that one compile reports them all.

use quote::ToTokens;
use std::cell::RefCell;
use std::fmt::Display;

/// Collects errors; [`finish`](Ctxt::finish) reports them together.
#[derive(Default)]
pub(crate) struct Ctxt {
    errors: RefCell<Vec<syn::Error>>,
}

impl Ctxt {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an error at `tokens`, the fewer the better.
    pub(crate) fn error(&self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error at `tokens`, if there are any.
    pub(crate) fn error_at(&self, tokens: Option<impl ToTokens>, message: impl Display) {
        if let Some(tokens) = tokens {
            self.error(tokens, message);
        }
    }

    /// Adds an error.
    pub(crate) fn push(&self, error: syn::Error) {
        self.errors.borrow_mut().push(error);
    }

    /// Adds the error of a result, and returns its value.
    pub(crate) fn check<T>(&self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Returns all errors, if there are any.
    pub(crate) fn finish(self) -> syn::Result<()> {
        let combined = self.errors.into_inner().into_iter().reduce(|mut all, one| {
            all.combine(one);
            all
        });
        combined.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn every_error_is_reported() {
        let cx = Ctxt::new();
        cx.error(quote!(a), "one");
        assert!(cx.check(syn::parse_str::<syn::Ident>("1")).is_none());
        cx.error(quote!(b), "three");
        let all = cx.finish().unwrap_err();
        assert_eq!(all.into_iter().count(), 3);
        assert!(Ctxt::new().finish().is_ok());
    }
}
