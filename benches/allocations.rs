//! How many allocations a decision makes, by kind of event: `-- --nocapture` prints them.

use allocation_counter::{AllocationInfo, measure};
use benches::{Kind, Transition};
use saga_core::machine::Verdict;

/// The most that a decision of this kind may make. The target is 3.
///
/// One each for what is sent, its payload and the history; then one for each text.
const fn allocations_max(kind: Kind) -> u64 {
    match kind {
        Kind::Failed => 2,
        Kind::Started
        | Kind::Succeeded
        | Kind::NoReply
        | Kind::RetryDue
        | Kind::CancelRequested => 3,
        Kind::Rejected => 5,
        Kind::OperatorRetry => 6,
    }
}

#[test]
fn a_decision_makes_few_allocations() {
    // The first command makes the room that each later one is written into.
    let _ = Transition::of(Kind::Started).decide();
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
