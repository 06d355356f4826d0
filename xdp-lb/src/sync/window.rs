//! Which numbers of a sender were seen: none counts twice, in whatever order they come.

/// Words of the window.
const WORDS: usize = 32;
/// How far behind the highest a number may be, and still be told from a repetition.
pub const WIDTH: u64 = WORDS as u64 * 64;

/// The numbers near the highest one that was seen.
#[derive(Clone, Debug, Default)]
pub struct Window {
    highest: u64,
    /// A bit per number, at the number modulo [`WIDTH`].
    seen: [u64; WORDS],
}

impl Window {
    /// One that begins with this number: it and all before count as seen.
    pub const fn begin(number: u64) -> Self {
        Self {
            highest: number,
            seen: [u64::MAX; WORDS],
        }
    }

    /// Notes a number; whether it is new. 0 is never used, and one far behind counts as seen.
    pub fn admit(&mut self, number: u64) -> bool {
        if number > self.highest {
            let steps = (number - self.highest).min(WIDTH);
            // Those in between were not seen, whatever stood at their bits.
            for step in 1..=steps {
                self.set(number - steps + step, false);
            }
            self.highest = number;
        } else if number == 0 || self.highest - number >= WIDTH || self.is_set(number) {
            return false;
        }
        self.set(number, true);
        true
    }

    const fn place(number: u64) -> (usize, u64) {
        let at = number % WIDTH;
        let word = (at / 64) as usize;
        (word, 1 << (at % 64))
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.seen.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, number: u64, seen: bool) {
        let (word, bit) = Self::place(number);
        if let Some(word) = self.seen.get_mut(word) {
            *word = if seen { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_came_before_the_beginning_is_not_new() {
        let mut window = Window::begin(5);
        assert!((0..=5).all(|number| !window.admit(number)));
        assert!(window.admit(7) && window.admit(6));
        assert!(!window.admit(6) && !window.admit(7));
        assert!(window.admit(6 + WIDTH));
        assert!(window.admit(8), "it is not that far behind");
        assert!(!window.admit(6), "it may have been seen");
    }

    proptest! {
        #[test]
        fn no_number_counts_twice_and_none_near_is_lost(
            steps in prop::collection::vec((0_u64..3000, any::<bool>()), 1..400),
        ) {
            let mut window = Window::default();
            let mut admitted = BTreeSet::new();
            let mut highest = 0_u64;
            for (step, forward) in steps {
                let number = if forward { highest + step } else { highest.saturating_sub(step) };
                let is_near = number > 0 && (number > highest || highest - number < WIDTH);
                let is_new = is_near && !admitted.contains(&number);
                prop_assert_eq!(window.admit(number), is_new, "{} at {}", number, highest);
                if is_new {
                    admitted.insert(number);
                }
                highest = highest.max(number);
            }
        }
    }
}
