//! What is done wrong on purpose is seen, and by what should see it.

use saga_testkit::{Defect, see};

use crate::shop::Shop;

const SEEDS: u64 = 2_000;

#[track_caller]
fn assert_seen(defect: Defect, by: &str) {
    let flaw = see(&Shop, defect, 0..SEEDS);
    let flaw = flaw.unwrap_or_else(|| panic!("{SEEDS} seeds do not see {defect:?}"));
    assert!(flaw.contains(by), "{defect:?} is seen as: {flaw}");
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
