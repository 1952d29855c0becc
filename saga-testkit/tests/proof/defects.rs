//! What is done wrong on purpose is seen, and by what should see it.

#![cfg(feature = "planted-defects")]

use saga_testkit::{Defect, see};

use crate::shop::Shop;

/// What else a defect breaks.
const ALSO: [(Defect, &str); 1] =
    [(Defect::AcknowledgedFirst, "a reply was acknowledged before what it says was durable")];

/// How many seeds are played at most.
const SEEDS: u64 = 2_000;

/// One defect shows in several ways; how many of them are looked at.
const FLAWS: usize = 500;

/// What is done wrong, the invariant that it breaks, and the words in which that is told.
const DEFECTS: [(Defect, &str, &str); 12] = [
    (Defect::NoInbox, "I4", "was carried out twice"),
    (Defect::AcknowledgedFirst, "I6", "acknowledged before its answer was durable"),
    (Defect::OutboxOutside, "I13", "the message is lost"),
    (Defect::SentBeforeAcknowledged, "I6", "deleted before the broker had it"),
    (Defect::ReadsAfterTheLast, "I5", "were never sent"),
    (Defect::NoBarrier, "I9", "after it had been undone"),
    (Defect::LateReplyCounts, "I2", "outcomes"),
    (Defect::NoVersionCheck, "I10", "was taken at version"),
    (Defect::NoOrder, "I7", "has overtaken"),
    (Defect::BeginsAtTheEnd, "I5", "acknowledged before its answer was durable"),
    (Defect::CompensatesForward, "I8", "which came after it"),
    (Defect::IdPerAttempt, "I4", "was carried out twice"),
];

/// I2, I4, I5, I6, I7, I8, I9, I10, I13: a proof sees when they do not hold.
#[test]
fn twelve_defects_of_twelve_are_seen() {
    let mut unseen = Vec::new();
    for (defect, words) in ALSO {
        assert!(see(&Shop, defect, 0..SEEDS).any(|flaw| flaw.contains(words)), "{words}");
    }
    for (defect, invariant, words) in DEFECTS {
        let flaws = || see(&Shop, defect, 0..SEEDS).take(FLAWS);
        match flaws().position(|flaw| flaw.contains(words)) {
            Some(before) => println!("{invariant:4} {defect:?}: \"{words}\", as flaw {before}"),
            None => unseen.push((defect, invariant, flaws().collect::<Vec<_>>())),
        }
    }
    assert!(unseen.is_empty(), "not seen as what they are: {unseen:#?}");
}
