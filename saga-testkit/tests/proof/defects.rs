//! What is done wrong on purpose is seen, and by what should see it.

use saga_testkit::{Defect, see};

use crate::shop::Shop;

/// How many seeds are played at most.
const SEEDS: u64 = 2_000;

/// One defect shows in several ways; how many of them are looked at.
const FLAWS: usize = 50;

#[track_caller]
fn assert_seen(defect: Defect, by: &str) {
    let flaws = || see(&Shop, defect, 0..SEEDS).take(FLAWS);
    let is_seen = flaws().any(|flaw| flaw.contains(by));
    assert!(is_seen, "{defect:?} is not seen as `{by}`, but as {:#?}", flaws().collect::<Vec<_>>());
}

#[test]
fn i4_no_inbox() {
    assert_seen(Defect::NoInbox, "was carried out twice");
}

#[test]
fn i6_acknowledged_first() {
    assert_seen(Defect::AcknowledgedFirst, "acknowledged before its answer was durable");
}

#[test]
fn i13_outbox_outside() {
    assert_seen(Defect::OutboxOutside, "the message is lost");
}

#[test]
fn i6_sent_before_acknowledged() {
    assert_seen(Defect::SentBeforeAcknowledged, "deleted before the broker had it");
}

#[test]
fn i9_no_barrier() {
    assert_seen(Defect::NoBarrier, "after it had been undone");
}

#[test]
fn i10_no_version_check() {
    assert_seen(Defect::NoVersionCheck, "was taken at version");
}

#[test]
fn i7_no_order() {
    assert_seen(Defect::NoOrder, "has overtaken");
}

#[test]
fn i5_begins_at_the_end() {
    assert_seen(Defect::BeginsAtTheEnd, "acknowledged before its answer was durable");
}

#[test]
fn i4_id_per_attempt() {
    assert_seen(Defect::IdPerAttempt, "was carried out twice");
}

#[cfg(feature = "planted-defects")]
#[test]
fn i2_late_reply_counts() {
    assert_seen(Defect::LateReplyCounts, "outcomes");
}

#[cfg(feature = "planted-defects")]
#[test]
fn i8_compensates_forward() {
    assert_seen(Defect::CompensatesForward, "which came after it");
}
