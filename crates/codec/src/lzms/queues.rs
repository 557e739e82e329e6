//! Repeat queues: the sources of the last matches of one kind, which later ones can refer to.
//!
//! A source enters its queue one item late: the item directly behind a match sees the queue without it. Kept here in
//! the equivalent form with the newest source always in front and a mark that hides it from the next item.

use std::hint::select_unpredictable;

use super::REPEATS;

/// The sources of one kind of match; `T` is a packed source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queue<T> {
    places: [T; REPEATS + 1],
    /// 1 if the item before this one was a match of this kind, else 0.
    hidden: u32,
}

impl<T: Copy> Queue<T> {
    pub(super) const fn new(places: [T; REPEATS + 1]) -> Self {
        Self { places, hidden: 0 }
    }

    /// The source that repeat `index` (0 to 2) means for the next item.
    #[inline(always)]
    pub(super) fn repeat(&self, index: usize) -> T {
        self.places[(index + self.hidden as usize) & 3]
    }

    /// An item that is no match of this kind has passed.
    #[inline(always)]
    pub(super) fn pass(&mut self) {
        self.hidden = 0;
    }

    /// A match of this kind with an explicit source has passed.
    #[inline(always)]
    pub(super) fn push(&mut self, source: T) {
        let [a, b, c, _] = self.places;
        self.places = [source, a, b, c];
        self.hidden = 1;
    }

    /// A match of this kind with repeat `index` has passed. Returns its source.
    #[inline(always)]
    pub(super) fn reuse(&mut self, index: usize) -> T {
        let at = (index + self.hidden as usize) & 3;
        let [a, b, c, d] = self.places;
        // Selections, not branches: which place it is cannot be foreseen.
        self.places = [
            self.places[at],
            select_unpredictable(at >= 1, a, b),
            select_unpredictable(at >= 2, b, c),
            select_unpredictable(at >= 3, c, d),
        ];
        self.hidden = 1;
        self.places[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The queue as the format description has it, with a pending slot.
    struct Plain {
        places: [u32; 4],
        pending: Option<u32>,
    }

    impl Plain {
        fn item(&mut self, source: Option<u32>) {
            if let Some(pending) = self.pending {
                self.places = [pending, self.places[0], self.places[1], self.places[2]];
            }
            self.pending = source;
        }

        fn reuse(&mut self, index: usize) -> u32 {
            let source = self.places[index];
            self.places.copy_within(index + 1.., index);
            self.item(Some(source));
            source
        }
    }

    #[test]
    fn the_compact_form_behaves_as_the_described_one() {
        let mut state = 7u32;
        let mut plain = Plain { places: [1, 2, 3, 4], pending: None };
        let mut queue = Queue::new([1u32, 2, 3, 4]);
        for step in 5..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 28 {
                0..=4 => {
                    plain.item(None);
                    queue.pass();
                }
                5..=8 => {
                    plain.item(Some(step));
                    queue.push(step);
                }
                choice => {
                    let index = choice as usize % 3;
                    assert_eq!(queue.reuse(index), plain.reuse(index), "step {step}");
                }
            }
            for index in 0..REPEATS {
                assert_eq!(queue.repeat(index), plain.places[index], "step {step}");
            }
        }
    }
}
