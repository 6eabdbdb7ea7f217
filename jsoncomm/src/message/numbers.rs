//! Lists of numbers that need no memory of their own unless they are long.

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// So many stand in place.
const FEW: usize = 32;

/// What a `&[u32]` argument is decoded into, or one of other numbers.
#[derive(Debug)]
#[doc(hidden)]
pub struct Numbers<T> {
    few: [T; FEW],
    /// How many of `few` there are, unless there are more.
    count: usize,
    /// All, if there are more than a few.
    many: Vec<T>,
}

impl<T> Deref for Numbers<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self.many.is_empty() {
            true => self.few.get(..self.count).unwrap_or_default(),
            false => &self.many,
        }
    }
}

impl<T: Copy> Numbers<T> {
    fn push(&mut self, number: T) {
        match self.few.get_mut(self.count) {
            Some(place) => {
                *place = number;
                self.count += 1;
            }
            None => {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.few);
                }
                self.many.push(number);
            }
        }
    }
}

impl<'de, T: Deserialize<'de> + Copy + Default> Deserialize<'de> for Numbers<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(NumbersVisitor(PhantomData))
    }
}

struct NumbersVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Copy + Default> Visitor<'de> for NumbersVisitor<T> {
    type Value = Numbers<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Numbers<T>, A::Error> {
        let mut numbers = Numbers {
            few: [T::default(); FEW],
            count: 0,
            many: Vec::new(),
        };
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
    fn a_list_of_any_length_is_read_and_a_short_one_takes_no_memory() {
        for length in [0, 1, FEW - 1, FEW, FEW + 1, 10 * FEW] {
            let list: Vec<usize> = (0..length).collect();
            let text = serde_json::to_string(&list).unwrap();
            let read: Numbers<usize> = serde_json::from_str(&text).unwrap();
            assert_eq!(*read, list);
            assert_eq!(read.many.capacity() > 0, length > FEW);
        }
    }

    #[test]
    fn what_is_no_list_of_such_numbers_is_refused_as_serde_does() {
        for text in ["7", "null", "{}", "[-1]", "[256]", "[1,\"2\"]", "[1.0]"] {
            let ours = serde_json::from_str::<Numbers<u8>>(text).map(drop);
            let serdes = serde_json::from_str::<Vec<u8>>(text).map(drop);
            let said = |read: Result<(), serde_json::Error>| read.unwrap_err().to_string();
            assert_eq!(said(ours), said(serdes), "{text}");
        }
    }
}
