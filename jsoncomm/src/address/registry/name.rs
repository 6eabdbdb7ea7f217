//! The names of services.

use crate::error::RegistryProblem;

/// The longest name of a file in bytes (`NAME_MAX`).
const LENGTH_MAX: usize = 255;

/// Checks that the text is a name that `#[service]` allows, and that a file can have it.
pub(super) fn check(name: &str) -> Result<(), RegistryProblem> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let length = name.len();
    if length == 0 {
        return Err(RegistryProblem::Empty);
    }
    if length > LENGTH_MAX {
        let limit = LENGTH_MAX;
        return Err(RegistryProblem::TooLong { length, limit });
    }
    if let Some(byte) = name.bytes().find(|byte| !fits(*byte)) {
        return Err(RegistryProblem::Character { byte });
    }
    if name.split('.').any(str::is_empty) {
        return Err(RegistryProblem::Dots);
    }
    if name.split('.').next() == Some("rpc") {
        return Err(RegistryProblem::Reserved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_macro_allows_and_fits_a_file() {
        let longest = "a".repeat(LENGTH_MAX);
        for good in ["example.files", "a", "a-b.c_d.1", "rpcs.a", &longest] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(RegistryProblem::Empty));
        let (length, limit) = (LENGTH_MAX + 1, LENGTH_MAX);
        let long = Err(RegistryProblem::TooLong { length, limit });
        assert_eq!(check(&"a".repeat(length)), long);
        for dots in [".", "..", ".a", "a.", "a..b"] {
            assert_eq!(check(dots), Err(RegistryProblem::Dots), "{dots}");
        }
        for (bad, byte) in [("a/b", b'/'), ("../a", b'/'), ("a b", b' '), ("a\0", 0)] {
            assert_eq!(
                check(bad),
                Err(RegistryProblem::Character { byte }),
                "{bad}"
            );
        }
        for reserved in ["rpc", "rpc.a"] {
            assert_eq!(check(reserved), Err(RegistryProblem::Reserved));
        }
    }
}
