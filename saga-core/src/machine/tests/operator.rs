//! What a person does to a saga.

use super::*;
use crate::machine::Ignored;

/// `a`, then the pivot `b`, then `c`; each tried once.
fn saga() -> Saga<Ledger> {
    let once = attempts(1);
    let before = Saga::builder().step(A).retry(once).compensation_retry(once);
    before.pivot(B).retry(once).then(C).retry(once).build().unwrap()
}

fn parked_at_a() -> Run {
    let mut run = Run::start(saga());
    assert_eq!(run.reply("a", failed_for_good()), Verdict::Applied);
    run
}

fn parked_at_the_pivot() -> Run {
    let mut run = Run::start(saga());
    run.succeed("a");
    run.wait();
    assert_eq!(run.failure(), (Some("b"), "attempts-used-up"));
    run
}

fn parked_at_the_compensation() -> Run {
    let mut run = Run::start(saga());
    run.succeed("a");
    run.reject("b");
    run.wait();
    assert_eq!(run.failure(), (Some("a"), "compensation-failed"));
    run
}

fn assert_refused(verdict: Verdict, why: &str) {
    assert!(matches!(verdict, Verdict::Refused(text) if text.contains(why)), "{verdict:?}");
}

#[test]
fn a_retry_has_all_attempts_anew() {
    let saga = Saga::builder().pivot(A).retry(attempts(2)).build().unwrap();
    let mut run = Run::start(saga);
    for before in [2, 4, 6] {
        run.wait();
        run.wait();
        assert_eq!(run.status(), Status::Parked);
        assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
        let sent = &run.sent[0];
        assert_eq!(
            (run.sent().as_str(), sent.attempt, sent.attempts_before),
            ("a", before + 1, before)
        );
        assert_eq!(sent.id, run.command("a"), "it is still the same command");
    }
    run.succeed("a");
    assert_eq!(run.status(), Status::Completed);
}

#[test]
fn what_failed_before_a_retry_does_not_fail_it_when_it_is_said_again() {
    let saga = Saga::builder().pivot(A).build().unwrap();
    let mut run = Run::start(saga);
    let failed = || Outcome::FailedPermanently("broken".to_owned());
    assert_eq!(run.reply("a", failed()), Verdict::Applied);
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    let earlier = Verdict::Ignored(Ignored::EarlierAttempt);
    assert_eq!(run.reply_to(run.command("a"), 1, failed()), earlier);
    assert_eq!(run.status(), Status::Running);
    run.succeed("a");
    assert_eq!(run.status(), Status::Completed);
}

#[test]
fn a_retried_compensation_goes_on_compensating() {
    let mut run = parked_at_the_compensation();
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));
    let sent = &run.sent[0];
    assert_eq!((sent.attempt, sent.attempts_before), (2, 1), "with all attempts anew");
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_skipped_step_lets_the_saga_go_on() {
    let mut run = parked_at_a();
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!((run.state("a"), run.sent().as_str()), (StepState::Skipped, "b"));
    assert!(matches!(run.reply("a", Outcome::Succeeded), Verdict::Ignored(_)));
}

#[test]
fn a_skipped_compensation_counts_as_done() {
    let mut run = parked_at_the_compensation();
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_resolved_step_goes_on_with_the_reply_that_was_found_out() {
    let mut run = parked_at_the_pivot();
    assert_eq!(run.operate(resolve_succeeded()), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Running, "c"));
    assert_eq!(run.data().replies, [7, 9]);
}

#[test]
fn a_reply_that_the_step_cannot_read_is_refused() {
    let mut run = parked_at_the_pivot();
    let garbled = Resolution::Succeeded(Payload::from(b"?".to_vec()));
    assert_refused(run.operate(OperatorAction::Resolve(garbled)), "cannot read");
    assert_eq!(run.failure(), (Some("b"), "attempts-used-up"));
}

#[test]
fn a_pivot_that_was_not_carried_out_compensates() {
    let mut run = parked_at_the_pivot();
    assert_eq!(run.operate(resolve_rejected()), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));
}

#[test]
fn a_step_is_not_skipped_or_resolved_without_a_reason() {
    for action in [OperatorAction::Skip, resolve_succeeded(), resolve_rejected()] {
        for (by, reason) in [("ada", ""), ("ada", " "), ("", "looked into it")] {
            let mut run = parked_at_a();
            let (by, reason) = (by.to_owned(), reason.to_owned());
            let operation = Operation { by, reason, action: action.clone() };
            assert_refused(run.decide(Event::Operator(operation)), "who decides it and why");
        }
    }
}

#[test]
fn what_cannot_be_rejected_is_refused() {
    assert_refused(parked_at_the_compensation().operate(resolve_rejected()), "compensation");

    let mut run = Run::start(saga());
    run.succeed("a");
    run.succeed("b");
    run.wait();
    assert_eq!(run.failure(), (Some("c"), "attempts-used-up"));
    assert_refused(run.operate(resolve_rejected()), "after the pivot");
}

#[test]
fn a_pivot_that_was_skipped_after_it_was_asked_for_cannot_be_gone_back_over() {
    let saga = Saga::builder()
        .step(A)
        .pivot(B)
        .retry(attempts(1))
        .wait(name("pause"), |_| DEADLINE)
        .build()
        .unwrap();
    let mut run = Run::start(saga);
    run.succeed("a");
    run.wait();
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.state("pause"), StepState::Waiting);
    assert_refused(run.decide(Event::CancelRequested), "pivot");
}

#[test]
fn a_pivot_that_was_carried_out_by_hand_cannot_be_gone_back_over() {
    let saga = Saga::builder().pivot(A).wait(name("pause"), |_| DEADLINE).build().unwrap();
    let mut run = Run::start_with(saga, Ledger { is_mute: true, ..Ledger::default() });
    assert_eq!(run.failure(), (Some("a"), "command-unencodable"));
    assert_eq!(run.operate(resolve_succeeded()), Verdict::Applied);
    assert_eq!(run.state("pause"), StepState::Waiting);
    assert_refused(run.decide(Event::CancelRequested), "pivot");
}

#[test]
fn a_person_acts_on_parked_sagas_only() {
    let actions = [OperatorAction::Retry, OperatorAction::Skip, resolve_succeeded()];
    for action in actions.clone() {
        assert_refused(Run::start(saga()).operate(action), "not parked");
    }
    for action in actions {
        let mut run = Run::start(saga());
        run.reject("a");
        assert_refused(run.operate(action), "ended");
    }
}

#[test]
fn a_parked_saga_can_be_cancelled_before_its_pivot() {
    let mut run = parked_at_a();
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));

    assert_refused(parked_at_the_pivot().decide(Event::CancelRequested), "pivot");
}

#[test]
fn a_person_who_cancels_is_on_record() {
    let saga = saga();
    let progress = Run::start(saga.clone()).progress;
    let (by, reason) = ("ada".to_owned(), "the customer called".to_owned());
    let operation = Operation { by, reason, action: OperatorAction::Cancel };
    let Decision { history, verdict, .. } =
        decide(saga.definition(), progress, Event::Operator(operation), START);
    assert_eq!(verdict, Verdict::Applied);
    assert_eq!(history[0].kind, HistoryKind::CancelRequested);
    assert_eq!(history[0].detail, "cancel by ada: the customer called");
}

#[test]
fn a_timer_can_be_moved() {
    let mut run = Run::start(saga());
    let (from, to) = (run.progress.next_due().unwrap(), run.now + DEADLINE * 10);
    let move_timer = |step: &str| OperatorAction::MoveTimer { step: name(step), from, to };
    assert_eq!(run.operate(move_timer("a")), Verdict::Applied);
    assert_eq!(run.progress.next_due(), Some(to));
    assert_refused(run.operate(move_timer("a")), "moved meanwhile");
    assert_refused(run.operate(move_timer("b")), "no timer");
    assert_refused(run.operate(move_timer("nowhere")), "no step");
}

#[test]
fn what_a_person_did_is_in_the_history_with_who_and_why() {
    let run = parked_at_a();
    let (by, reason) = ("ada".to_owned(), "looked into it".to_owned());
    let operation = Operation { by, reason, action: OperatorAction::Retry };
    let Decision { history, .. } =
        decide(run.saga.definition(), run.progress, Event::Operator(operation), run.now);
    assert_eq!(history[0].kind, HistoryKind::Operator);
    assert_eq!(history[0].detail, "retry by ada: looked into it");
    assert_eq!(history[0].step, Some(name("a")));
}

#[test]
fn a_timer_that_is_moved_to_the_past_fires_at_once_whoever_was_away() {
    let mut run = Run::start(saga());
    let from = run.progress.next_due().unwrap();
    let action = OperatorAction::MoveTimer { step: name("a"), from, to: run.now };
    assert_eq!(run.operate(action), Verdict::Applied);
    assert!(run.noted.contains(&HistoryKind::TimedOut), "{:?}", run.noted);
    assert_ne!(run.view("a").attempt, 0);
}
