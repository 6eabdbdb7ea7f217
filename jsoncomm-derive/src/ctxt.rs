//! Complaints, collected so that one compile reports them all.

use quote::ToTokens;
use std::cell::RefCell;
use std::fmt::Display;

/// Collects complaints; [`finish`](Ctxt::finish) reports them together.
#[derive(Default)]
pub(crate) struct Ctxt {
    errors: RefCell<Option<syn::Error>>,
}

impl Ctxt {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Complains about `tokens`, the fewer the better.
    pub(crate) fn complain(&self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds what syn complains about.
    pub(crate) fn push(&self, error: syn::Error) {
        let mut errors = self.errors.borrow_mut();
        match errors.as_mut() {
            Some(first) => first.combine(error),
            None => *errors = Some(error),
        }
    }

    /// Adds what syn complains about, if it does.
    pub(crate) fn check<T>(&self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Ends the pass: all complaints, or none.
    pub(crate) fn finish(self) -> syn::Result<()> {
        match self.errors.into_inner() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn every_complaint_is_reported() {
        let cx = Ctxt::new();
        cx.complain(quote!(a), "one");
        assert!(cx.check(syn::parse_str::<syn::Ident>("1")).is_none());
        cx.complain(quote!(b), "three");
        let all = cx.finish().unwrap_err();
        assert_eq!(all.into_iter().count(), 3);
        assert!(Ctxt::new().finish().is_ok());
    }
}
