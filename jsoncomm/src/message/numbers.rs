//! Lists of numbers that are borrowed by a handler.

use super::few::Few;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Numbers that need no allocation.
const FEW: usize = 32;

/// A `&[u32]` argument, or one of other numbers.
#[doc(hidden)]
pub type Numbers<T> = Few<T, FEW>;

impl<'de, T: Deserialize<'de> + Copy> Deserialize<'de> for Numbers<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(NumbersVisitor(PhantomData))
    }
}

struct NumbersVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Copy> Visitor<'de> for NumbersVisitor<T> {
    type Value = Numbers<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Numbers<T>, A::Error> {
        let mut numbers = Few::Empty;
        while let Some(number) = from.next_element()? {
            numbers.push(number);
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_is_read_and_a_short_one_without_allocation() {
        for length in [0, 1, FEW - 1, FEW, FEW + 1, 10 * FEW] {
            let list: Vec<usize> = (0..length).collect();
            let text = serde_json::to_string(&list).unwrap();
            let read: Numbers<usize> = serde_json::from_str(&text).unwrap();
            assert_eq!(*read, list);
            assert_eq!(matches!(read, Few::Allocated(_)), length > FEW);
        }
    }

    #[test]
    fn other_values_are_refused_with_the_errors_of_serde() {
        for text in ["7", "null", "{}", "[-1]", "[256]", "[1,\"2\"]", "[1.0]"] {
            let ours = serde_json::from_str::<Numbers<u8>>(text).map(drop);
            let serdes = serde_json::from_str::<Vec<u8>>(text).map(drop);
            let said = |read: Result<(), serde_json::Error>| read.unwrap_err().to_string();
            assert_eq!(said(ours), said(serdes), "{text}");
        }
    }
}
