//! The rules of the table in the machine's own page, one test each.

use super::*;

/// `a`, the pivot `b`, then `c`; each tried twice.
fn with_pivot() -> Saga<Ledger> {
    Saga::builder()
        .step(A)
        .retry(attempts(2))
        .compensation_retry(attempts(2))
        .pivot(B)
        .retry(attempts(2))
        .then(C)
        .retry(attempts(2))
        .build()
        .unwrap()
}

/// The same, `a` done and the pivot outstanding.
fn at_the_pivot() -> Run {
    let mut run = Run::start(with_pivot());
    run.succeed("a");
    assert_eq!(run.sent(), "b");
    run
}

/// The same, the pivot done and `c` outstanding.
fn after_the_pivot() -> Run {
    let mut run = at_the_pivot();
    run.succeed("b");
    assert_eq!(run.sent(), "c");
    run
}

/// The same, the pivot refused and `a` being compensated.
fn compensating() -> Run {
    let mut run = at_the_pivot();
    run.reject("b");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));
    run
}

#[test]
fn what_succeeds_goes_on_to_the_end() {
    let mut run = after_the_pivot();
    run.succeed("c");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Completed, ""));
    assert_eq!(run.data().replies, [7, 7, 7]);
    assert_eq!(run.progress.cause(), None);
    assert_eq!(run.history.iter().filter(|kind| **kind == HistoryKind::Completed).count(), 1);
}

#[test]
fn a_rejection_before_the_pivot_compensates() {
    let saga = Saga::builder().step(A).step(B).pivot(C).build().unwrap();
    let mut run = Run::start(saga);
    run.succeed("a");
    run.reject("b");
    assert_eq!(run.state("b"), StepState::Refused, "what was refused has nothing to undo");
    assert_eq!(run.sent(), "~a");
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_rejection_of_the_first_step_ends_at_once() {
    let mut run = Run::start(with_pivot());
    run.reject("a");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensated, ""));
}

#[test]
fn a_rejection_of_the_pivot_compensates() {
    let mut run = compensating();
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
    assert_eq!(run.history.iter().filter(|kind| **kind == HistoryKind::SagaCompensated).count(), 1);
}

#[test]
fn a_rejection_after_the_pivot_parks() {
    let mut run = after_the_pivot();
    run.reject("c");
    assert_eq!(run.failure(), (Some("c"), "rejected"));
    assert!(matches!(run.operate(OperatorAction::Retry), Verdict::Refused(_)));
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.status(), Status::Completed);
}

#[test]
fn a_rejected_compensation_parks() {
    let mut run = compensating();
    assert_eq!(run.undo_reply("a", rejected()), Verdict::Applied);
    assert_eq!(run.failure(), (Some("a"), "compensation-rejected"));
    // Its participant has the rejection on record under the id that a retry would have again.
    assert!(matches!(run.operate(OperatorAction::Retry), Verdict::Refused(_)));
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_transient_failure_is_retried_after_a_wait() {
    for (mut run, step) in
        [(Run::start(with_pivot()), "a"), (at_the_pivot(), "b"), (after_the_pivot(), "c")]
    {
        assert_eq!(run.reply(step, failed()), Verdict::Applied);
        assert_eq!((run.state(step), run.sent().as_str()), (StepState::Delayed, ""));
        let wait = run.progress.next_due().unwrap().since(run.now);
        assert!(wait <= RETRY_DELAY && wait >= RETRY_DELAY / 2, "{wait:?}");
        run.wait();
        assert_eq!((run.state(step), run.sent().as_str()), (StepState::Outstanding, step));
        assert_eq!(run.sent[0].attempt, 2);
        assert_eq!(run.sent[0].id, run.command(step), "a retry is the same command");
    }
}

#[test]
fn a_transient_failure_of_a_compensation_is_retried_after_a_wait() {
    let mut run = compensating();
    assert_eq!(run.undo_reply("a", failed()), Verdict::Applied);
    assert_eq!((run.state("a"), run.sent().as_str()), (StepState::CompensationDelayed, ""));
    run.wait();
    assert_eq!((run.sent().as_str(), run.sent[0].attempt), ("~a", 2));
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_permanent_failure_parks() {
    for (mut run, step) in
        [(Run::start(with_pivot()), "a"), (at_the_pivot(), "b"), (after_the_pivot(), "c")]
    {
        assert_eq!(run.reply(step, failed_for_good()), Verdict::Applied);
        assert_eq!(run.failure(), (Some(step), "failed"));
        assert_eq!(run.sent(), "");
    }
    let mut run = compensating();
    assert_eq!(run.undo_reply("a", failed_for_good()), Verdict::Applied);
    assert_eq!(run.failure(), (Some("a"), "compensation-failed"));
}

#[test]
fn what_is_not_answered_in_time_is_asked_again_at_once() {
    for (mut run, step) in
        [(Run::start(with_pivot()), "a"), (at_the_pivot(), "b"), (after_the_pivot(), "c")]
    {
        let sent_at = run.now;
        run.wait();
        assert_eq!(run.now.since(sent_at), DEADLINE);
        assert_eq!((run.sent().as_str(), run.sent[0].attempt), (step, 2));
        run.succeed(step);
    }
    let mut run = compensating();
    run.wait();
    assert_eq!((run.sent().as_str(), run.sent[0].attempt), ("~a", 2));
}

#[test]
fn attempts_used_up_before_the_pivot_compensate_that_step_too() {
    let mut run = Run::start(with_pivot());
    run.wait();
    run.wait();
    assert_eq!(run.sent(), "~a", "nobody knows whether `a` took effect");
    assert!(!run.sent[0].succeeded);
    assert_eq!(run.sent[0].compensates, Some(run.command("a")));
    assert_eq!(run.progress.cause().unwrap().code(), "timed-out");
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn attempts_used_up_from_the_pivot_on_park() {
    for (mut run, step) in [(at_the_pivot(), "b"), (after_the_pivot(), "c")] {
        run.wait();
        run.wait();
        assert_eq!(run.failure(), (Some(step), "attempts-used-up"));
        assert_eq!(run.progress.next_due(), None);
    }
}

#[test]
fn attempts_used_up_of_a_compensation_park() {
    let mut run = compensating();
    run.wait();
    run.wait();
    assert_eq!(run.failure(), (Some("a"), "compensation-failed"));
}

#[test]
fn the_attempts_are_exactly_the_policys() {
    for allowed in [1, 2, 3, 7] {
        let saga = Saga::builder()
            .step(A)
            .retry(attempts(allowed))
            .compensation_retry(attempts(allowed))
            .build()
            .unwrap();
        for times_out in [false, true] {
            let mut run = Run::start(saga.clone());
            let mut made = (u32::from(run.sent() == "a"), 0);
            while run.status() != Status::Parked {
                match (times_out, run.state("a")) {
                    (false, StepState::Outstanding) => _ = run.reply("a", failed()),
                    (false, StepState::Compensating) => _ = run.undo_reply("a", failed()),
                    _ => run.wait(),
                }
                made.0 += u32::from(run.sent() == "a");
                made.1 += u32::from(run.sent() == "~a");
            }
            assert_eq!(made, (allowed, allowed), "times out: {times_out}");
        }
    }
}

#[test]
fn a_cancel_before_the_pivot_compensates_once_the_outstanding_step_has_answered() {
    let mut run = Run::start(with_pivot());
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, ""));
    run.succeed("a");
    assert_eq!(run.sent(), "~a");
    assert!(run.sent[0].succeeded);
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
    assert_eq!(run.progress.cause().unwrap().code(), "cancelled");
    assert_eq!(run.progress.cause().unwrap().step(), None);
}

#[test]
fn a_cancelled_step_that_does_not_answer_in_time_is_undone_and_not_asked_again() {
    let mut run = Run::start(with_pivot());
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    run.wait();
    assert_eq!(run.sent(), "~a");
}

#[test]
fn a_cancel_from_the_pivot_on_is_refused() {
    for mut run in [at_the_pivot(), after_the_pivot()] {
        assert!(matches!(run.decide(Event::CancelRequested), Verdict::Refused(_)));
        assert_eq!(run.status(), Status::Running);
    }
}

#[test]
fn a_cancel_while_compensating_is_under_way_already() {
    let verdict = compensating().decide(Event::CancelRequested);
    assert_eq!(verdict, Verdict::Ignored(crate::machine::Ignored::UnderWay));
}

/// F65: whichever comes first decides, and the other changes nothing.
#[test]
fn a_cancel_that_races_with_the_last_success_has_one_end() {
    let saga = Saga::builder().step(A).build().unwrap();
    let mut run = Run::start(saga.clone());
    run.succeed("a");
    assert!(matches!(run.decide(Event::CancelRequested), Verdict::Refused(_)));
    assert_eq!(run.status(), Status::Completed);

    let mut run = Run::start(saga);
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    run.succeed("a");
    run.undone("a");
    assert!(matches!(run.decide(Event::CancelRequested), Verdict::Ignored(_)), "it is undone");
    assert_eq!(run.status(), Status::Compensated);
}

/// F60: the answer comes before, while and after its step is compensated.
#[test]
fn a_late_answer_changes_nothing() {
    let mut run = Run::start(with_pivot());
    run.wait();
    run.wait();
    assert_eq!(run.state("a"), StepState::Compensating);
    for outcome in [Outcome::Succeeded, rejected(), failed(), failed_for_good()] {
        assert!(matches!(run.reply("a", outcome), Verdict::Ignored(_)));
    }
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
    for outcome in [Outcome::Succeeded, rejected(), failed(), failed_for_good()] {
        assert!(matches!(run.reply("a", outcome.clone()), Verdict::Ignored(_)));
        assert!(matches!(run.undo_reply("a", outcome), Verdict::Ignored(_)));
    }
}

#[test]
fn an_earlier_attempt_may_still_settle_a_step_but_not_fail_it() {
    let mut run = Run::start(with_pivot());
    run.wait();
    let command = run.command("a");
    for outcome in [failed(), failed_for_good()] {
        assert!(matches!(run.reply_to(command, 1, outcome), Verdict::Ignored(_)));
    }
    assert_eq!(run.reply_to(command, 1, Outcome::Succeeded), Verdict::Applied);
    assert_eq!((run.state("a"), run.sent().as_str()), (StepState::Succeeded, "b"));
}

#[test]
fn a_late_answer_wakes_a_parked_saga() {
    let parked_at_the_pivot = || {
        let mut run = at_the_pivot();
        run.wait();
        run.wait();
        assert_eq!(run.failure(), (Some("b"), "attempts-used-up"));
        run
    };
    let mut run = parked_at_the_pivot();
    run.succeed("b");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Running, "c"));
    assert!(run.noted.contains(&HistoryKind::Resumed));

    let mut run = parked_at_the_pivot();
    run.reject("b");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));

    let mut run = compensating();
    run.wait();
    run.wait();
    assert_eq!(run.failure(), (Some("a"), "compensation-failed"));
    run.undone("a");
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn an_answer_to_an_earlier_attempt_wakes_a_saga_whose_latest_attempt_failed_for_good() {
    let mut run = Run::start(with_pivot());
    run.wait();
    assert_eq!(run.reply("a", failed_for_good()), Verdict::Applied);
    assert_eq!(run.status(), Status::Parked);
    assert_eq!(run.reply_to(run.command("a"), 1, Outcome::Succeeded), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Running, "b"));
}

#[test]
fn the_answer_that_a_saga_is_parked_for_changes_nothing_when_it_comes_again() {
    let mut run = after_the_pivot();
    run.reject("c");
    assert!(matches!(run.reply("c", rejected()), Verdict::Ignored(_)));

    let mut run = compensating();
    assert_eq!(run.undo_reply("a", rejected()), Verdict::Applied);
    assert!(matches!(run.undo_reply("a", rejected()), Verdict::Ignored(_)));

    let mut run = Run::start(with_pivot());
    assert_eq!(undecodable_reply(&mut run, "a"), Verdict::Applied);
    assert!(matches!(undecodable_reply(&mut run, "a"), Verdict::Ignored(_)));
}

#[test]
fn compensation_goes_in_reverse_order_and_takes_in_what_was_done_before_the_saga() {
    let saga = Saga::builder()
        .compensation(name("earlier"), |data, cause| undo("earlier", data, cause))
        .step(A)
        .step(B)
        .step(C)
        .build()
        .unwrap();
    let mut run = Run::start(saga);
    run.succeed("a");
    run.succeed("b");
    run.reject("c");
    let mut order = vec![run.sent()];
    for step in ["b", "a", "earlier"] {
        run.undone(step);
        order.push(run.sent());
    }
    assert_eq!(order, ["~b", "~a", "~earlier", ""]);
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn what_was_done_before_the_saga_is_undone_although_no_step_was() {
    let saga = Saga::builder()
        .compensation(name("earlier"), |data, cause| undo("earlier", data, cause))
        .step(A)
        .build()
        .unwrap();
    let mut run = Run::start(saga);
    run.reject("a");
    assert_eq!(run.sent(), "~earlier");
    assert_eq!(run.sent[0].compensates, None, "it undoes no command of this saga");
    assert!(run.sent[0].succeeded);
}

#[test]
fn compensations_learn_the_cause() {
    let cause = |run: &Run| {
        let asked: Asked = Json::decode(run.sent[0].payload.as_bytes()).unwrap();
        asked.cause.unwrap()
    };
    assert_eq!(cause(&compensating()), "no by b");

    let mut run = Run::start(with_pivot());
    run.wait();
    run.wait();
    assert_eq!(cause(&run), "timed-out by a");

    let mut run = Run::start(with_pivot());
    assert_eq!(run.reply("a", failed()), Verdict::Applied);
    run.wait();
    assert_eq!(run.reply("a", failed()), Verdict::Applied);
    assert_eq!(cause(&run), "failed by a");

    let mut run = Run::start(with_pivot());
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    run.succeed("a");
    assert_eq!(cause(&run), "cancelled by nobody");
}

#[test]
fn a_rejection_without_a_code_is_a_cause_too() {
    let mut run = Run::start(with_pivot());
    assert_eq!(run.reply("a", Outcome::Rejected(String::new())), Verdict::Applied);
    assert_eq!(run.progress.cause().and_then(Cause::step), Some(&name("a")));
}

#[test]
fn a_condition_is_asked_when_its_step_is_reached() {
    let saga = || {
        Saga::builder()
            .step(A)
            .when(|data: &Ledger| data.holds)
            .step(B)
            .when(|data: &Ledger| data.replies == [7])
            .then(C)
            .when(|data: &Ledger| data.holds)
            .build()
            .unwrap()
    };
    let mut run = Run::start_with(saga(), Ledger { holds: true, ..Ledger::default() });
    assert_eq!(run.sent(), "a");
    run.succeed("a");
    assert_eq!(run.sent(), "b", "the reply of `a` made the condition hold");
    run.reject("b");
    assert_eq!(run.sent(), "~a");

    let mut run = Run::start(saga());
    assert_eq!((run.status(), run.sent().as_str()), (Status::Completed, ""));
    for step in ["a", "b", "c"] {
        assert_eq!(run.state(step), StepState::Skipped);
    }
    assert!(matches!(run.reply("a", Outcome::Succeeded), Verdict::Ignored(_)));
}

#[test]
fn a_skipped_step_is_not_undone() {
    let saga =
        Saga::builder().step(A).step(B).when(|data: &Ledger| data.holds).step(C).build().unwrap();
    let mut run = Run::start(saga);
    run.succeed("a");
    assert_eq!((run.state("b"), run.sent().as_str()), (StepState::Skipped, "c"));
    run.reject("c");
    assert_eq!(run.sent(), "~a");
}

#[test]
fn a_skipped_pivot_leaves_the_way_back_open() {
    let saga = Saga::builder()
        .step(A)
        .pivot(B)
        .when(|data: &Ledger| data.holds)
        .wait(name("pause"), |_| DEADLINE)
        .then(C)
        .build()
        .unwrap();
    let mut run = Run::start(saga);
    run.succeed("a");
    assert_eq!((run.state("b"), run.state("pause")), (StepState::Skipped, StepState::Waiting));
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!((run.state("pause"), run.sent().as_str()), (StepState::Skipped, "~a"));
}

#[test]
fn a_wait_ends_when_it_is_due_and_not_before() {
    let saga = Saga::builder()
        .step(A)
        .wait(name("pause"), |data: &Ledger| DEADLINE * data.replies[0])
        .step(B)
        .build()
        .unwrap();
    let mut run = Run::start(saga);
    run.succeed("a");
    assert_eq!((run.state("pause"), run.sent().as_str()), (StepState::Waiting, ""));
    assert_eq!(run.progress.next_due().unwrap().since(run.now), DEADLINE * 7);
    run.now = run.progress.next_due().unwrap() - Duration::from_micros(1);
    assert!(matches!(
        run.decide(Event::TimerFired { reachable_since: Timestamp::default() }),
        Verdict::Ignored(_)
    ));
    run.wait();
    assert_eq!(run.sent(), "b");
    assert!(
        matches!(
            run.decide(Event::TimerFired { reachable_since: Timestamp::default() }),
            Verdict::Ignored(_)
        ),
        "it fires once"
    );
    run.reject("b");
    assert_eq!(run.sent(), "~a", "a wait has nothing to undo");
}

#[test]
fn a_saga_can_consist_of_a_wait_and_can_wait_for_ever() {
    let saga = Saga::builder().wait(name("pause"), |_| Duration::MAX).build().unwrap();
    let mut run = Run::start(saga);
    assert_eq!(run.progress.next_due(), Some(Timestamp::from_micros(i64::MAX)));
    let from = run.progress.next_due().unwrap();
    let action = OperatorAction::MoveTimer { step: name("pause"), from, to: run.now };
    assert_eq!(run.operate(action), Verdict::Applied);
    assert_eq!(run.status(), Status::Completed);
}

fn undecodable_reply(run: &mut Run, step: &str) -> Verdict {
    let (command, attempt) = (run.command(step), run.view(step).attempt);
    let payload = Payload::from(b"?".to_vec());
    run.decide(Event::Reply(ReplyEvent { command, attempt, outcome: Outcome::Succeeded, payload }))
}

#[test]
fn a_reply_that_cannot_be_read_parks_and_still_counts_as_an_effect() {
    let mut run = Run::start(with_pivot());
    assert_eq!(undecodable_reply(&mut run, "a"), Verdict::Applied);
    assert_eq!(run.failure(), (Some("a"), "reply-undecodable"));
    assert!(run.data().replies.is_empty());
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));
    assert!(run.sent[0].succeeded, "it was carried out");
}

#[test]
fn a_saga_is_parked_for_what_was_learned_last_about_its_step() {
    let mut run = at_the_pivot();
    run.wait();
    run.wait();
    assert_eq!(run.failure(), (Some("b"), "attempts-used-up"));
    assert_eq!(undecodable_reply(&mut run, "b"), Verdict::Applied);
    assert_eq!(run.failure(), (Some("b"), "reply-undecodable"));
}

#[test]
fn a_reply_that_can_be_read_after_all_wakes_the_saga() {
    let mut run = Run::start(with_pivot());
    assert_eq!(undecodable_reply(&mut run, "a"), Verdict::Applied);
    run.succeed("a");
    assert_eq!((run.status(), run.sent().as_str()), (Status::Running, "b"));
}

#[test]
fn a_reply_that_cannot_be_read_on_the_way_back_parks_before_anything_is_undone() {
    let mut run = Run::start(with_pivot());
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!(undecodable_reply(&mut run, "a"), Verdict::Applied);
    assert_eq!(run.failure(), (Some("a"), "reply-undecodable"));
    assert_eq!(run.operate(OperatorAction::Skip), Verdict::Applied);
    assert_eq!(run.sent(), "~a", "it took effect");
}

#[test]
fn a_command_that_cannot_be_encoded_parks() {
    let mut run = Run::start_with(with_pivot(), Ledger { is_mute: true, ..Ledger::default() });
    assert_eq!(run.failure(), (Some("a"), "command-unencodable"));
    assert_eq!(run.sent(), "");
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    assert_eq!(run.failure(), (Some("a"), "command-unencodable"));
    assert!(!run.noted.contains(&HistoryKind::Resumed));
}

#[test]
fn a_command_that_was_never_sent_is_not_undone() {
    let mut run = Run::start_with(with_pivot(), Ledger { is_mute: true, ..Ledger::default() });
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensated, ""));
}

#[test]
fn a_forged_reply_does_not_answer_a_command_that_was_never_sent() {
    let mut run = Run::start_with(with_pivot(), Ledger { is_mute: true, ..Ledger::default() });
    let nil = MessageId(Uuid::nil());
    assert!(matches!(run.reply_to(nil, 0, Outcome::Succeeded), Verdict::Ignored(_)));
}

#[test]
fn a_pivot_that_was_never_sent_leaves_the_way_back_open() {
    let mut run = Run::start(with_pivot());
    set_mute(&mut run, true);
    run.succeed("a");
    assert_eq!(run.failure(), (Some("b"), "command-unencodable"));
    set_mute(&mut run, false);
    assert_eq!(run.decide(Event::CancelRequested), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));
}

#[test]
fn a_compensation_that_cannot_be_encoded_parks() {
    let mut run = at_the_pivot();
    set_mute(&mut run, true);
    run.reject("b");
    assert_eq!(run.failure(), (Some("a"), "command-unencodable"));
    set_mute(&mut run, false);
    assert_eq!(run.operate(OperatorAction::Retry), Verdict::Applied);
    assert_eq!((run.status(), run.sent().as_str()), (Status::Compensating, "~a"));
    assert_eq!(run.sent[0].attempt, 1, "those of the step are not those of its compensation");
}

fn set_mute(run: &mut Run, is_mute: bool) {
    let data = run.progress.data.downcast_mut::<Ledger>().unwrap();
    data.is_mute = is_mute;
}

#[test]
fn the_same_decision_twice_is_the_same_decision() {
    let run = at_the_pivot();
    let decide = || {
        let reply = ReplyEvent {
            command: run.command("b"),
            attempt: 1,
            outcome: failed(),
            payload: Payload::default(),
        };
        let progress = stored(&run.saga, &run.progress);
        decide(run.saga.definition(), progress, Event::Reply(reply), run.now)
    };
    let (one, other) = (decide(), decide());
    assert_same(&run.saga, &one.progress, &other.progress);
    assert_eq!((one.commands, one.history), (other.commands, other.history));
}
