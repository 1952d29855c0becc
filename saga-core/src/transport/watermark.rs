//! How far a partition is done: the offset up to which everything is acknowledged.

use std::collections::VecDeque;

/// The offset of a partition up to which every delivery is acknowledged.
///
/// Deliveries are acknowledged in any order; an offset that is stored may only move over those
/// that are done with, else a crash loses the one in between. Offsets may have holes, as they have
/// on a compacted topic.
///
/// # Examples
///
/// ```
/// use saga_core::transport::Watermark;
/// let mut watermark = Watermark::new(7);
/// watermark.delivered(7);
/// watermark.delivered(9);
/// watermark.acknowledge(9);
/// assert_eq!(watermark.position(), 7, "7 is still open");
/// watermark.acknowledge(7);
/// assert_eq!(watermark.position(), 10);
/// ```
#[derive(Debug, Clone)]
pub struct Watermark {
    /// What was delivered and is at or above the position, ascending, and whether it is done.
    window: VecDeque<(u64, bool)>,
    /// Everything below the first open delivery is done; this, if none is open.
    done: u64,
}

impl Watermark {
    /// Starts at the offset of the first delivery to come.
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self { window: VecDeque::new(), done: start }
    }

    /// Notes that a record was delivered. Offsets come in ascending order.
    pub fn delivered(&mut self, offset: u64) {
        debug_assert!(self.window.back().is_none_or(|(last, _)| *last < offset));
        self.window.push_back((offset, false));
    }

    /// Notes that a delivery is done with. An offset that was not delivered, or is done, is ignored.
    pub fn acknowledge(&mut self, offset: u64) {
        if let Ok(at) = self.window.binary_search_by_key(&offset, |(offset, _)| *offset) {
            self.window[at].1 = true;
        }
        while let Some((offset, true)) = self.window.front() {
            self.done = offset + 1;
            self.window.pop_front();
        }
    }

    /// Returns the offset to go on from after a crash: the first delivery that is not done.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.window.front().map_or(self.done, |(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_from_the_start_on_is_passed() {
        let mut watermark = Watermark::new(3);
        assert_eq!(watermark.position(), 3);
        for offset in [3, 4, 8, 9] {
            watermark.delivered(offset);
        }
        watermark.acknowledge(8);
        watermark.acknowledge(4);
        watermark.acknowledge(5); // never delivered
        watermark.acknowledge(100);
        assert_eq!(watermark.position(), 3);
        watermark.acknowledge(3);
        assert_eq!(watermark.position(), 9);
        watermark.acknowledge(3);
        watermark.acknowledge(9);
        assert_eq!(watermark.position(), 10);
    }
}
