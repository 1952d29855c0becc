//! Chance that can be repeated.

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// A stream of numbers that its seed decides (`SplitMix64`).
pub(crate) struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Takes the seed from a variable, or makes one.
    pub(crate) fn from_environment(variable: &str) -> Self {
        let seed = match env::var(variable) {
            Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{variable} must be a number")),
            Err(_) => RandomState::new().hash_one(variable) % 1_000_000,
        };
        Self { seed, state: seed }
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Makes a stream of its own for another task.
    pub(crate) fn fork(&mut self) -> Self {
        Self { seed: self.seed, state: self.next() }
    }

    /// Returns a number from 0 to below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn duration_below(&mut self, end: Duration) -> Duration {
        let end = u64::try_from(end.as_micros()).expect("a short duration");
        Duration::from_micros(self.below(end))
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1);
            items.swap(last, usize::try_from(other).expect("an index"));
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
