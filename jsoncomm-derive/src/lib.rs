//! The macros of `jsoncomm`; use them through it.
