//! A list that needs no allocation while it is short.

use std::ops::Deref;

/// A list of values, of which up to `N` are stored in place.
#[doc(hidden)]
#[derive(Debug)]
pub enum Few<T, const N: usize> {
    Empty,
    /// The first so many of these; the others are copies of the first, since there is nothing else to put there.
    InPlace([T; N], usize),
    Allocated(Vec<T>),
}

impl<T: Copy, const N: usize> Few<T, N> {
    pub(super) fn push(&mut self, value: T) {
        match self {
            Self::Empty => *self = Self::InPlace([value; N], 1),
            Self::InPlace(values, count) => match values.get_mut(*count) {
                Some(place) => {
                    *place = value;
                    *count += 1;
                }
                None => *self = Self::Allocated([values.as_slice(), &[value]].concat()),
            },
            Self::Allocated(values) => values.push(value),
        }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        match self {
            Self::Empty => {}
            Self::InPlace(_, count) => *count = length.min(*count),
            Self::Allocated(values) => values.truncate(length),
        }
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Empty => &[],
            Self::InPlace(values, count) => values.get(..*count).unwrap_or_default(),
            Self::Allocated(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_few_or_many_items_in_order() {
        for length in 0..9 {
            let filled = || {
                let mut few = Few::<_, 4>::Empty;
                (0..length).for_each(|value| few.push(value));
                few
            };
            assert!(filled().iter().copied().eq(0..length));
            assert_eq!(matches!(filled(), Few::Allocated(_)), length > 4);
            for left in 0..length {
                let mut few = filled();
                few.truncate(left);
                few.push(99);
                assert!(few.iter().copied().eq((0..left).chain([99])));
            }
        }
    }
}
