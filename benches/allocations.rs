//! How many allocations a decision makes, by kind of event: `-- --nocapture` prints them.

use allocation_counter::{AllocationInfo, measure};
use benches::{Kind, Transition};
use saga_core::machine::Verdict;

/// The most that a decision of this kind may make. The target is 3.
///
/// One each for what is sent, its payload, the payload's owner and the history; then one for each text.
const fn allocations_max(kind: Kind) -> u64 {
    match kind {
        Kind::Failed => 2,
        Kind::CancelRequested => 3,
        Kind::Started | Kind::Succeeded | Kind::RetryDue => 4,
        Kind::NoReply => 5,
        Kind::Rejected => 6,
        Kind::OperatorRetry => 7,
    }
}

#[test]
fn a_decision_makes_few_allocations() {
    for kind in Kind::ALL {
        let transition = Transition::of(kind);
        let mut decision = None;
        let AllocationInfo { count_total, bytes_total, .. } =
            measure(|| decision = Some(transition.decide()));
        println!("{:<16} {count_total} allocations, {bytes_total} bytes", kind.name());
        assert_eq!(decision.expect("it was made").verdict, Verdict::Applied, "{kind:?}");
        assert!(count_total <= allocations_max(kind), "{kind:?}: {count_total} allocations");
    }
}
