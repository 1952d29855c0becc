//! Parallel groups: they start together, join, are awaited before they are undone, and are undone together.

use super::*;

/// `a`, then `b` and `c` in parallel, then `d`; each tried once.
fn with_group() -> Saga<Ledger> {
    Saga::builder()
        .step(A)
        .parallel(|group| group.step(B).step(C))
        .retry(attempts(1))
        .compensation_retry(attempts(1))
        .step(D)
        .build()
        .unwrap()
}

/// The same, the group outstanding.
fn in_the_group() -> Run {
    let mut run = Run::start(with_group());
    run.succeed("a");
    assert_eq!(run.sent(), "b c");
    run
}

/// The same, both branches of the group being compensated.
fn undoing_the_group() -> Run {
    let mut run = in_the_group();
    run.succeed("b");
    run.succeed("c");
    run.reject("d");
    assert_eq!(run.sent(), "~b ~c", "in parallel");
    run
}

#[test]
fn the_saga_goes_on_when_all_branches_have_succeeded() {
    for order in [["b", "c"], ["c", "b"]] {
        let mut run = in_the_group();
        run.succeed(order[0]);
        assert_eq!(run.sent(), "");
        run.succeed(order[1]);
        assert_eq!(run.sent(), "d");
    }
}

/// F64: no compensation overtakes what it undoes.
#[test]
fn a_running_branch_is_awaited_before_the_group_is_undone() {
    let mut run = in_the_group();
    run.reject("b");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, ""));
    run.succeed("c");
    assert_eq!(run.sent(), "~c");
    run.undone("c");
    assert_eq!(run.sent(), "~a");
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_running_branch_that_times_out_is_undone_like_one_that_succeeded() {
    let mut run = in_the_group();
    run.reject("b");
    run.wait();
    assert_eq!(run.sent(), "~c");
    assert!(!run.sent[0].succeeded);
}

#[test]
fn branches_that_wait_to_be_retried_are_given_up_when_the_saga_turns_back() {
    let saga =
        Saga::builder().parallel(|group| group.step(A).step(B)).retry(attempts(3)).build().unwrap();
    let mut run = Run::start(saga);
    assert_eq!(run.reply("a", failed()), Verdict::Applied);
    assert_eq!(run.state("a"), StepState::Delayed);
    run.reject("b");
    assert_eq!(run.sent(), "~a", "an attempt before the failed one may have taken effect");
}

#[test]
fn both_branches_may_refuse() {
    let mut run = in_the_group();
    run.reject("b");
    run.reject("c");
    assert_eq!(run.sent(), "~a");
    assert_eq!(run.progress.cause().and_then(Cause::step), Some(&name("b")), "the first counts");
}

#[test]
fn two_branches_that_time_out_at_once_turn_back_once() {
    let mut run = in_the_group();
    run.wait();
    assert_eq!(run.sent(), "~b ~c");
    let turns = run.history.iter().filter(|kind| **kind == HistoryKind::CompensationStarted);
    assert_eq!(turns.count(), 1);
}

#[test]
fn a_stage_is_undone_when_all_branches_of_the_one_after_it_are() {
    let mut run = undoing_the_group();
    run.undone("c");
    assert_eq!(run.sent(), "");
    run.undone("b");
    assert_eq!(run.sent(), "~a");
}

#[test]
fn a_condition_may_leave_out_a_branch_or_all() {
    let saga = || {
        Saga::builder()
            .parallel(|group| {
                group.step(A).when(|data: &Ledger| data.holds).step(B).when(|data| data.holds)
            })
            .parallel(|group| group.step(C).when(|data: &Ledger| data.holds).step(D))
            .build()
            .unwrap()
    };
    let mut run = Run::start(saga());
    assert_eq!(run.sent(), "d");
    run.succeed("d");
    assert_eq!(run.status(), Status::Completed);

    let run = Run::start_with(saga(), Ledger { holds: true, ..Ledger::default() });
    assert_eq!(run.sent(), "a b");
}

#[test]
fn a_branch_that_failed_for_good_parks_while_the_others_go_on() {
    let mut run = in_the_group();
    assert_eq!(run.reply("b", failed_for_good()), Verdict::Applied);
    assert_eq!(run.failure(), (Some("b"), "failed"));
    run.succeed("c");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Parked, ""));
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Running, "b"));
    run.succeed("b");
    assert_eq!(run.sent(), "d");
}

#[test]
fn a_branch_that_is_refused_turns_a_parked_saga_back() {
    let mut run = in_the_group();
    assert_eq!(run.reply("b", failed_for_good()), Verdict::Applied);
    run.reject("c");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~b"));
}

#[test]
fn a_parked_branch_does_not_lose_its_hold_when_another_one_is_settled() {
    let mut run = in_the_group();
    assert_eq!(run.reply("b", failed_for_good()), Verdict::Applied);
    assert_eq!(run.reply("c", failed_for_good()), Verdict::Applied);
    assert_eq!(run.failure(), (Some("b"), "failed"), "one at a time, the first one first");
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.failure().0, Some("c"));
    assert_eq!(run.sent(), "");
    assert!(!run.noted.contains(&HistoryKind::Resumed));
    assert_eq!(run.operate(resolve_succeeded()), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Running, "d"));
    assert!(run.noted.contains(&HistoryKind::Resumed));
}

#[test]
fn two_compensations_that_fail_are_settled_one_by_one() {
    let mut run = undoing_the_group();
    assert_eq!(run.undo_reply("c", failed_for_good()), Verdict::Applied);
    assert_eq!(run.undo_reply("b", failed_for_good()), Verdict::Applied);
    assert_eq!(run.failure().0, Some("c"));
    run.undone("b");
    assert_eq!(run.failure().0, Some("c"), "a late answer settles only its own step");
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    assert_eq!(run.sent(), "~c");
    run.undone("c");
    assert_eq!(run.sent(), "~a");
}

#[test]
fn a_late_answer_of_one_of_two_parked_branches_leaves_the_other_parked() {
    let saga = Saga::builder()
        .then_parallel(|group| group.then(A).then(B))
        .retry(attempts(1))
        .build()
        .unwrap();
    let mut run = Run::start(saga);
    run.wait();
    assert_eq!(run.failure(), (Some("a"), "attempts-used-up"));
    assert_eq!(run.state("b"), StepState::Unknown);
    run.succeed("a");
    assert_eq!(run.failure().0, Some("b"));
    run.succeed("b");
    assert_eq!(run.status(), Status::Completed);
}

#[test]
fn a_skipped_branch_that_was_asked_for_is_undone_like_the_others() {
    let mut run = in_the_group();
    assert_eq!(run.reply("b", failed_for_good()), Verdict::Applied);
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    run.reject("c");
    assert_eq!(run.sent(), "~b", "nobody knows whether an earlier attempt took effect");
}

#[test]
fn a_branch_that_was_refused_stays_so_while_a_person_looks_at_another() {
    let saga = Saga::builder().then_parallel(|group| group.then(A).then(B)).build().unwrap();
    let mut run = Run::start(saga);
    run.reject("a");
    run.reject("b");
    assert_eq!(run.failure(), (Some("a"), "rejected"));
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.failure(), (Some("b"), "rejected"));
    assert!(matches!(run.operate(OperatorAction::Retry), Verdict::Refused(_)));
    assert_eq!(run.operate(resolve_succeeded()), Verdict::Applied);
    assert_eq!(run.status(), Status::Completed);
}
