//! Which brackets of a text are open.

/// The brackets that are open where a text is read, the innermost last. Takes no allocation up to 64 levels.
#[derive(Debug, Default)]
pub(crate) struct Brackets {
    depth: usize,
    /// One bit for each of the innermost levels, the last of them lowest: 1 for an object.
    inner: u64,
    /// The bits of the levels further out, 64 together.
    outer: Vec<u64>,
}

impl Brackets {
    pub(super) fn clear(&mut self) {
        (self.depth, self.inner) = (0, 0);
        self.outer.clear();
    }

    /// Opens one that `end` closes.
    pub(super) fn push(&mut self, end: u8) {
        if self.depth != 0 && self.depth % 64 == 0 {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(end == b'}');
        self.depth += 1;
    }

    /// Returns what closes the innermost.
    pub(super) fn last(&self) -> Option<u8> {
        let end = if self.inner & 1 == 1 { b'}' } else { b']' };
        (self.depth != 0).then_some(end)
    }

    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.inner >>= 1;
        if self.depth % 64 == 0 {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_of_any_depth_are_closed_in_order() {
        for depth in [1_usize, 63, 64, 65, 127, 128, 129, 300] {
            let end = |level: usize| if level * level % 7 < 3 { b'}' } else { b']' };
            let mut brackets = Brackets::default();
            for round in 0..2 {
                (0..depth).for_each(|level| brackets.push(end(level)));
                for level in (0..depth).rev() {
                    assert_eq!(brackets.last(), Some(end(level)), "{round}");
                    // Opened again after it was closed.
                    brackets.pop();
                    brackets.push(b']');
                    assert_eq!(brackets.last(), Some(b']'));
                    brackets.pop();
                }
                assert_eq!(brackets.last(), None);
            }
            brackets.push(b'}');
            brackets.clear();
            assert_eq!(brackets.last(), None);
        }
    }
}
