//! Tests that run the compiler: what the macros refuse, and the commands of the README.
//!
//! They are a package of their own because trybuild compiles all dependencies of the package that it tests.
