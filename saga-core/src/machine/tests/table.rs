//! Every state and every event, legal or not, and what comes of it.
//!
//! The saga is `a`, then the step in question `b`, then `d`; a branch `b` has a sibling `c` that is
//! still outstanding, or still being compensated. The functions below `expected` are the table:
//! they match every state and every event by name, so that a new one does not compile until it is here.

#![expect(clippy::match_same_arms, reason = "one line per case, in the order of the states")]

use StepState::{
    Ahead, Compensated, Compensating, CompensationDelayed, CompensationFailed, Delayed, Failed,
    Outstanding, Refused, Skipped, Succeeded, Unknown, Waiting,
};

use super::*;
use crate::machine::progress::{Attempt, Direction, StepProgress};
use crate::machine::{Failure, Ignored};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prior,
    Compensable,
    Pivot,
    Retriable,
    Wait,
    Branch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    NotStarted,
    Forward,
    Backward,
    ParkedForward,
    ParkedBackward,
    Completed,
    Compensated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Situation {
    kind: Kind,
    state: StepState,
    heading: Heading,
    /// Whether the policy allows no attempt after this one.
    is_last_attempt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observed {
    Started,
    Command(Answered),
    Compensation(Answered),
    UnknownCommand(Answered),
    TimerDue,
    TimerNotDue,
    Cancel,
    Operator(Act),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Succeeded,
    Undecodable,
    Rejected,
    RejectedEarlier,
    FailedTransiently,
    FailedTransientlyEarlier,
    FailedPermanently,
    FailedPermanentlyEarlier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Retry,
    Skip,
    ResolveSucceeded,
    ResolveUndecodable,
    ResolveRejected,
    MoveTimer,
    /// Of one that has fired meanwhile.
    MoveOldTimer,
    Cancel,
}

/// What an event leads to: the state of `b`, the status of the saga, and what is sent (`~a` undoes `a`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    To(StepState, Status, &'static str),
    Ignored(Ignored),
    Refused,
}

const KINDS: [Kind; 6] =
    [Kind::Prior, Kind::Compensable, Kind::Pivot, Kind::Retriable, Kind::Wait, Kind::Branch];

const STATES: [StepState; 13] = [
    Ahead,
    Skipped,
    Waiting,
    Outstanding,
    Delayed,
    Succeeded,
    Refused,
    Unknown,
    Failed,
    Compensating,
    CompensationDelayed,
    Compensated,
    CompensationFailed,
];

const HEADINGS: [Heading; 7] = [
    Heading::NotStarted,
    Heading::Forward,
    Heading::Backward,
    Heading::ParkedForward,
    Heading::ParkedBackward,
    Heading::Completed,
    Heading::Compensated,
];

const ANSWERS: [Answered; 8] = [
    Answered::Succeeded,
    Answered::Undecodable,
    Answered::Rejected,
    Answered::RejectedEarlier,
    Answered::FailedTransiently,
    Answered::FailedTransientlyEarlier,
    Answered::FailedPermanently,
    Answered::FailedPermanentlyEarlier,
];

const ACTS: [Act; 8] = [
    Act::Retry,
    Act::Skip,
    Act::ResolveSucceeded,
    Act::ResolveUndecodable,
    Act::ResolveRejected,
    Act::MoveTimer,
    Act::MoveOldTimer,
    Act::Cancel,
];

// The table.

/// Can a saga at rest be here?
fn is_legal(Situation { kind, state, heading, .. }: Situation) -> bool {
    let asks = !matches!(kind, Kind::Prior | Kind::Wait);
    let is_undone = matches!(kind, Kind::Prior | Kind::Compensable | Kind::Branch);
    match (heading, state) {
        (Heading::NotStarted, Ahead) => kind != Kind::Prior,
        (Heading::NotStarted, Succeeded) => kind == Kind::Prior,
        (Heading::NotStarted, _) => false,

        (Heading::Forward | Heading::ParkedForward, state) => match state {
            Ahead | Skipped => kind != Kind::Prior,
            Waiting => kind == Kind::Wait,
            Outstanding | Delayed => asks,
            Succeeded => true,
            Unknown => heading == Heading::ParkedForward && asks && !is_undone,
            Failed => heading == Heading::ParkedForward && asks,
            Refused | Compensating | CompensationDelayed | Compensated | CompensationFailed => {
                false
            }
        },
        (Heading::Backward | Heading::ParkedBackward, state) => match state {
            Ahead | Skipped => kind != Kind::Prior,
            Outstanding => asks && is_undone,
            Refused => asks && kind != Kind::Retriable,
            // Undone at once, but for a branch that waits for its sibling.
            Succeeded | Unknown => kind == Kind::Branch,
            Failed => heading == Heading::ParkedBackward && asks && is_undone,
            Compensating | CompensationDelayed | Compensated => is_undone,
            CompensationFailed => heading == Heading::ParkedBackward && is_undone,
            Waiting | Delayed => false,
        },
        (Heading::Completed, Succeeded) => true,
        (Heading::Completed, Skipped) => kind != Kind::Prior,
        (Heading::Completed, _) => false,
        (Heading::Compensated, Ahead | Skipped) => kind != Kind::Prior,
        (Heading::Compensated, Refused) => asks && kind != Kind::Retriable,
        (Heading::Compensated, Compensated) => is_undone,
        (Heading::Compensated, _) => false,
    }
}

fn expected(at: Situation, observed: Observed) -> Then {
    match observed {
        Observed::Started => match at.heading {
            Heading::NotStarted => to(at.state, Status::Running, "a"),
            Heading::Forward
            | Heading::Backward
            | Heading::ParkedForward
            | Heading::ParkedBackward
            | Heading::Completed
            | Heading::Compensated => Then::Ignored(Ignored::Started),
        },
        Observed::Command(_) | Observed::Compensation(_) | Observed::UnknownCommand(_)
            if at.has_ended() =>
        {
            Then::Ignored(Ignored::Ended)
        }
        Observed::Command(answered) => on_answer(at, answered),
        Observed::Compensation(answered) => on_compensation_answer(at, answered),
        Observed::UnknownCommand(_) => Then::Ignored(Ignored::NotOutstanding),
        Observed::TimerDue => on_timer(at),
        Observed::TimerNotDue => Then::Ignored(Ignored::NotDue),
        Observed::Cancel => on_cancel(at),
        Observed::Operator(act) => on_operator(at, act),
    }
}

fn on_answer(at: Situation, answered: Answered) -> Then {
    let is_latest = match at.state {
        Ahead | Skipped | Waiting | Succeeded | Refused | Compensating | CompensationDelayed
        | Compensated | CompensationFailed => return Then::Ignored(Ignored::NotOutstanding),
        // Its outcome was given up; from now on it is undone whatever the answer is.
        Unknown | Failed if at.is_backward() => return Then::Ignored(Ignored::NotOutstanding),
        // Parked because its outcome is not known. A late answer tells.
        Unknown | Failed | Delayed => false,
        Outstanding => true,
    };
    let is_why_it_is_parked = Then::Ignored(Ignored::NotOutstanding);
    match answered {
        Answered::Succeeded => goes_on(at, Succeeded),
        Answered::Undecodable if at.state == Failed => is_why_it_is_parked,
        Answered::Undecodable => to(Failed, Status::Parked, ""),
        Answered::Rejected | Answered::RejectedEarlier => match at.kind {
            Kind::Retriable if at.state == Failed => is_why_it_is_parked,
            Kind::Retriable => to(Failed, Status::Parked, ""),
            Kind::Prior | Kind::Compensable | Kind::Pivot | Kind::Wait | Kind::Branch => {
                turns_back(at, Refused)
            }
        },
        Answered::FailedTransientlyEarlier | Answered::FailedPermanentlyEarlier => {
            Then::Ignored(Ignored::EarlierAttempt)
        }
        Answered::FailedTransiently | Answered::FailedPermanently if !is_latest => {
            Then::Ignored(Ignored::EarlierAttempt)
        }
        Answered::FailedTransiently | Answered::FailedPermanently if at.is_backward() => {
            turns_back(at, Unknown)
        }
        Answered::FailedTransiently if at.is_last_attempt => gives_up(at),
        Answered::FailedTransiently => to(Delayed, at.status(), ""),
        Answered::FailedPermanently => to(Failed, Status::Parked, ""),
    }
}

fn on_compensation_answer(at: Situation, answered: Answered) -> Then {
    let is_latest = match at.state {
        Ahead | Skipped | Waiting | Outstanding | Delayed | Succeeded | Refused | Unknown
        | Failed | Compensated => return Then::Ignored(Ignored::NotOutstanding),
        CompensationDelayed | CompensationFailed => false,
        Compensating => true,
    };
    match answered {
        Answered::Succeeded | Answered::Undecodable => is_undone(at),
        Answered::Rejected | Answered::RejectedEarlier => match at.state {
            CompensationFailed => Then::Ignored(Ignored::NotOutstanding),
            _ => to(CompensationFailed, Status::Parked, ""),
        },
        Answered::FailedTransientlyEarlier | Answered::FailedPermanentlyEarlier => {
            Then::Ignored(Ignored::EarlierAttempt)
        }
        Answered::FailedTransiently | Answered::FailedPermanently if !is_latest => {
            Then::Ignored(Ignored::EarlierAttempt)
        }
        Answered::FailedTransiently if !at.is_last_attempt => {
            to(CompensationDelayed, at.status(), "")
        }
        Answered::FailedTransiently | Answered::FailedPermanently => {
            to(CompensationFailed, Status::Parked, "")
        }
    }
}

fn on_timer(at: Situation) -> Then {
    if at.is_parked() {
        return Then::Ignored(Ignored::NotDue);
    }
    match at.state {
        Ahead | Skipped | Succeeded | Refused | Unknown | Failed | Compensated
        | CompensationFailed => Then::Ignored(Ignored::NotDue),
        Waiting => goes_on(at, Succeeded),
        Outstanding if at.is_backward() => turns_back(at, Unknown),
        Outstanding if at.is_last_attempt => gives_up(at),
        Outstanding | Delayed => to(Outstanding, Status::Running, "b"),
        Compensating if at.is_last_attempt => to(CompensationFailed, Status::Parked, ""),
        Compensating | CompensationDelayed => to(Compensating, Status::Compensating, "~b"),
    }
}

fn on_cancel(at: Situation) -> Then {
    match at.heading {
        Heading::Completed => return Then::Refused,
        Heading::Compensated => return Then::Ignored(Ignored::Ended),
        Heading::Backward | Heading::ParkedBackward => return Then::Ignored(Ignored::UnderWay),
        Heading::NotStarted if at.kind == Kind::Prior => {
            return to(Compensating, Status::Compensating, "~b");
        }
        Heading::NotStarted => return to(Ahead, Status::Compensated, ""),
        Heading::Forward | Heading::ParkedForward => {}
    }
    let is_forward_only = matches!(at.kind, Kind::Pivot | Kind::Retriable);
    match at.state {
        // `a` is awaited.
        Ahead => to(Ahead, Status::Compensating, ""),
        Succeeded if at.kind == Kind::Prior => to(Succeeded, Status::Compensating, ""),
        // `c` is awaited.
        Succeeded | Skipped if at.kind == Kind::Branch => to(at.state, Status::Compensating, ""),
        // `d` was asked for, and it stands after the pivot.
        Succeeded | Skipped => Then::Refused,
        Outstanding | Delayed | Failed | Unknown if is_forward_only => Then::Refused,
        Outstanding => to(Outstanding, Status::Compensating, ""),
        Delayed | Failed | Unknown => turns_back(at, Unknown),
        Waiting => to(Skipped, Status::Compensating, "~a"),
        Refused | Compensating | CompensationDelayed | Compensated | CompensationFailed => {
            unreachable!("going forward, nothing is undone")
        }
    }
}

fn on_operator(at: Situation, act: Act) -> Then {
    let is_compensation = at.state == CompensationFailed;
    match act {
        Act::MoveTimer => match at.state {
            Waiting | Outstanding | Delayed | Compensating | CompensationDelayed => {
                to(at.state, at.status(), "")
            }
            Ahead | Skipped | Succeeded | Refused | Unknown | Failed | Compensated
            | CompensationFailed => Then::Refused,
        },
        Act::MoveOldTimer => Then::Refused,
        Act::Cancel => on_cancel(at),
        _ if !at.is_parked() => Then::Refused,
        Act::Retry if !at.is_held() => to(at.state, at.status_unparked(), outstanding(at)),
        Act::Skip | Act::ResolveSucceeded | Act::ResolveUndecodable | Act::ResolveRejected
            if !at.is_held() =>
        {
            Then::Refused
        }
        Act::Retry if is_compensation => to(Compensating, Status::Compensating, "~b"),
        Act::Retry => to(Outstanding, at.status_unparked(), "b"),
        Act::Skip | Act::ResolveSucceeded | Act::ResolveUndecodable if is_compensation => {
            is_undone(at)
        }
        Act::Skip => goes_on(at, Skipped),
        Act::ResolveSucceeded => goes_on(at, Succeeded),
        Act::ResolveUndecodable => Then::Refused,
        Act::ResolveRejected if is_compensation || at.kind == Kind::Retriable => Then::Refused,
        Act::ResolveRejected => turns_back(at, Refused),
    }
}

/// What is asked for once more when a saga goes on that was not parked at a step.
fn outstanding(at: Situation) -> &'static str {
    let (is_branch, is_forward) = (at.kind == Kind::Branch, at.heading == Heading::ParkedForward);
    match at.state {
        Ahead if is_forward => "a",
        Ahead => "~a",
        Outstanding if is_branch => "b c",
        Outstanding => "b",
        Compensating if is_branch => "~b ~c",
        Compensating => "~b",
        Succeeded if at.kind == Kind::Prior && is_forward => "a",
        Succeeded | Skipped if is_forward && !is_branch => "d",
        Skipped | Refused | Compensated if !is_branch => "~a",
        Skipped | Refused | Compensated | CompensationDelayed if is_branch && !is_forward => "~c",
        _ if is_branch => "c",
        _ => "",
    }
}

/// `b` is done, or left out by a person after it was asked for.
fn goes_on(at: Situation, state: StepState) -> Then {
    match at.heading {
        _ if at.is_parked_elsewhere() => to(state, Status::Parked, ""),
        Heading::Backward | Heading::ParkedBackward if at.kind != Kind::Branch => {
            to(Compensating, Status::Compensating, "~b")
        }
        _ if at.kind == Kind::Branch => to(state, at.status_unparked(), ""),
        _ => to(state, Status::Running, "d"),
    }
}

/// `b` was refused, or nobody knows: the saga goes back or is on its way back already.
fn turns_back(at: Situation, state: StepState) -> Then {
    match (at.kind, state) {
        _ if at.heading == Heading::ParkedBackward && !at.is_held() => {
            to(state, Status::Parked, "")
        }
        // `c` is awaited.
        (Kind::Branch, _) => to(state, Status::Compensating, ""),
        (_, Unknown) => to(Compensating, Status::Compensating, "~b"),
        _ => to(state, Status::Compensating, "~a"),
    }
}

fn gives_up(at: Situation) -> Then {
    match at.kind {
        Kind::Compensable | Kind::Branch => turns_back(at, Unknown),
        Kind::Pivot | Kind::Retriable => to(Unknown, Status::Parked, ""),
        Kind::Prior | Kind::Wait => unreachable!("nothing is asked for"),
    }
}

fn is_undone(at: Situation) -> Then {
    match at.kind {
        _ if at.is_parked_elsewhere() => to(Compensated, Status::Parked, ""),
        Kind::Branch => to(Compensated, Status::Compensating, ""),
        _ => to(Compensated, Status::Compensating, "~a"),
    }
}

const fn to(state: StepState, status: Status, sent: &'static str) -> Then {
    Then::To(state, status, sent)
}

impl Situation {
    fn has_ended(self) -> bool {
        matches!(self.heading, Heading::Completed | Heading::Compensated)
    }

    fn is_backward(self) -> bool {
        matches!(self.heading, Heading::Backward | Heading::ParkedBackward)
    }

    fn is_parked(self) -> bool {
        matches!(self.heading, Heading::ParkedForward | Heading::ParkedBackward)
    }

    /// Is it `b` that the saga is parked at? Else the engine parked it, at no step.
    fn is_held(self) -> bool {
        self.is_parked()
            && match self.state {
                Failed | CompensationFailed => true,
                Unknown => self.heading == Heading::ParkedForward,
                _ => false,
            }
    }

    fn is_parked_elsewhere(self) -> bool {
        self.is_parked() && !self.is_held()
    }

    fn status(self) -> Status {
        if self.is_parked() { Status::Parked } else { self.status_unparked() }
    }

    fn status_unparked(self) -> Status {
        match self.heading {
            Heading::NotStarted | Heading::Forward | Heading::ParkedForward => Status::Running,
            Heading::Backward | Heading::ParkedBackward => Status::Compensating,
            Heading::Completed => Status::Completed,
            Heading::Compensated => Status::Compensated,
        }
    }
}

// The situations and the events, made.

const NOW: Timestamp = START;
const ATTEMPTS: u32 = 3;

fn definition(kind: Kind) -> Saga<Ledger> {
    let policy = attempts(ATTEMPTS);
    let before = Saga::builder().step(A);
    let built = match kind {
        Kind::Prior => before
            .compensation(name("b"), |data, cause| undo("b", data, cause))
            .compensation_retry(policy)
            .then(D)
            .build(),
        Kind::Compensable => {
            before.step(B).retry(policy).compensation_retry(policy).then(D).build()
        }
        Kind::Pivot => before.pivot(B).retry(policy).then(D).build(),
        Kind::Retriable => before.then(B).retry(policy).then(D).build(),
        Kind::Wait => before.wait(name("b"), |_| DEADLINE).then(D).build(),
        Kind::Branch => before
            .parallel(|group| group.step(B).step(C))
            .retry(policy)
            .compensation_retry(policy)
            .then(D)
            .build(),
    };
    built.expect("the definition is sound")
}

/// Returns where `a`, `c` and `d` stand.
fn others(at: Situation) -> [StepState; 3] {
    match at.heading {
        Heading::NotStarted => [Ahead; 3],
        Heading::Completed => [Succeeded; 3],
        Heading::Compensated => [Compensated, Compensated, Ahead],
        Heading::Forward | Heading::ParkedForward => match at.state {
            Ahead => [Outstanding, Ahead, Ahead],
            Succeeded if at.kind == Kind::Prior => [Outstanding, Ahead, Ahead],
            Succeeded | Skipped if at.kind != Kind::Branch => [Succeeded, Ahead, Outstanding],
            _ => [Succeeded, Outstanding, Ahead],
        },
        Heading::Backward | Heading::ParkedBackward => match at.state {
            Ahead | Skipped | Refused | Compensated if at.kind != Kind::Branch => {
                [Compensating, Ahead, Ahead]
            }
            Ahead => [Compensating, Ahead, Ahead],
            Skipped | Refused | Compensated | Compensating | CompensationDelayed
            | CompensationFailed => [Succeeded, Compensating, Ahead],
            _ => [Succeeded, Outstanding, Ahead],
        },
    }
}

fn progress(saga: &Saga<Ledger>, at: Situation) -> Progress {
    let mut progress = Progress::start(saga.definition(), SAGA, origin(), Ledger::default());
    let [a, c, d] = others(at);
    for (index, definition) in saga.definition().steps().iter().enumerate() {
        let (state, attempt, due) = match definition.name.as_str() {
            "a" => (a, 1, NOW + DEADLINE),
            "b" => (at.state, if at.is_last_attempt { ATTEMPTS } else { 2 }, NOW),
            "c" => (c, 1, NOW + DEADLINE),
            _ => (d, 1, NOW + DEADLINE),
        };
        let was_sent = definition.action.is_some() && !matches!(state, Ahead | Skipped);
        progress.steps[index] = StepProgress {
            state,
            attempt: match state == Ahead || at.heading == Heading::NotStarted {
                true => Attempt::default(),
                false => Attempt { number: attempt, before: 0 },
            },
            due,
            command: match was_sent {
                true => crate::machine::command::command_id(SAGA, &definition.name),
                false => MessageId(Uuid::nil()),
            },
            succeeded: state == Succeeded,
            refused: false,
        };
    }
    progress.direction = match at.heading {
        Heading::NotStarted => Direction::NotStarted,
        Heading::Forward | Heading::ParkedForward => Direction::Forward,
        Heading::Backward | Heading::ParkedBackward => Direction::Backward,
        Heading::Completed => Direction::Completed,
        Heading::Compensated => Direction::Compensated,
    };
    if at.is_backward() {
        progress.cause = Cause { step: None, code: "cancelled".to_owned() };
    }
    progress.parked = at.is_parked().then(|| Failure {
        step: at.is_held().then(|| name("b")),
        code: "test".to_owned(),
        message: String::new(),
    });
    progress
}

fn event(at: Situation, observed: Observed) -> (Event, Timestamp) {
    let attempt = if at.is_last_attempt { ATTEMPTS } else { 2 };
    let reply = |command: MessageId, answered: Answered| {
        let (outcome, attempt) = match answered {
            Answered::Succeeded | Answered::Undecodable => (Outcome::Succeeded, attempt),
            Answered::Rejected => (rejected(), attempt),
            Answered::RejectedEarlier => (rejected(), attempt - 1),
            Answered::FailedTransiently => (failed(), attempt),
            Answered::FailedTransientlyEarlier => (failed(), attempt - 1),
            Answered::FailedPermanently => (failed_for_good(), attempt),
            Answered::FailedPermanentlyEarlier => (failed_for_good(), attempt - 1),
        };
        let payload = match answered {
            Answered::Undecodable => Payload::from(b"?".to_vec()),
            _ => answer(7),
        };
        Event::Reply(ReplyEvent { command, attempt, outcome, payload })
    };
    let operator = |action| {
        let (by, reason) = ("ada".to_owned(), "looked into it".to_owned());
        Event::Operator(Operation { by, reason, action })
    };
    let move_timer =
        |from| OperatorAction::MoveTimer { step: name("b"), from, to: NOW + DEADLINE * 2 };
    let garbled = Resolution::Succeeded(Payload::from(b"?".to_vec()));
    let event = match observed {
        Observed::Started => Event::Started,
        Observed::Command(answered) => {
            reply(crate::machine::command::command_id(SAGA, &name("b")), answered)
        }
        Observed::Compensation(answered) => {
            reply(crate::machine::command::compensation_id(SAGA, &name("b")), answered)
        }
        // The id that a step has that was never sent.
        Observed::UnknownCommand(answered) => reply(MessageId(Uuid::nil()), answered),
        Observed::TimerDue | Observed::TimerNotDue => {
            Event::TimerFired { reachable_since: Timestamp::default() }
        }
        Observed::Cancel => Event::CancelRequested,
        Observed::Operator(Act::Retry) => operator(OperatorAction::Retry),
        Observed::Operator(Act::Skip) => operator(OperatorAction::Skip),
        Observed::Operator(Act::ResolveSucceeded) => operator(resolve_succeeded()),
        Observed::Operator(Act::ResolveUndecodable) => operator(OperatorAction::Resolve(garbled)),
        Observed::Operator(Act::ResolveRejected) => operator(resolve_rejected()),
        Observed::Operator(Act::MoveTimer) => operator(move_timer(NOW)),
        Observed::Operator(Act::MoveOldTimer) => operator(move_timer(START - DEADLINE)),
        Observed::Operator(Act::Cancel) => operator(OperatorAction::Cancel),
    };
    let now = match observed {
        Observed::TimerNotDue => Timestamp::from_micros(NOW.as_micros() - 1),
        _ => NOW,
    };
    (event, now)
}

fn events() -> Vec<Observed> {
    let mut events =
        vec![Observed::Started, Observed::TimerDue, Observed::TimerNotDue, Observed::Cancel];
    for answered in ANSWERS {
        events.push(Observed::Command(answered));
        events.push(Observed::Compensation(answered));
        events.push(Observed::UnknownCommand(answered));
    }
    events.extend(ACTS.map(Observed::Operator));
    events
}

fn situations() -> impl Iterator<Item = Situation> {
    KINDS.into_iter().flat_map(|kind| {
        STATES.into_iter().flat_map(move |state| {
            HEADINGS.into_iter().flat_map(move |heading| {
                [false, true].map(|is_last_attempt| Situation {
                    kind,
                    state,
                    heading,
                    is_last_attempt,
                })
            })
        })
    })
}

#[test]
fn every_event_in_every_legal_state() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for at in situations().filter(|&at| is_legal(at)) {
        let saga = definition(at.kind);
        for observed in events() {
            let before = progress(&saga, at);
            let (event, now) = event(at, observed);
            let decision = decide(saga.definition(), stored(&saga, &before), event, now);
            let index = saga.definition().step_index("b").expect("b is a step");
            let then = match decision.verdict {
                Verdict::Applied => Then::To(
                    decision.progress.steps[index].state,
                    decision.progress.status(),
                    sent(&decision.commands).leak(),
                ),
                Verdict::Ignored(reason) => Then::Ignored(reason),
                Verdict::Refused(_) => Then::Refused,
            };
            if decision.verdict == Verdict::Applied {
                assert!(!decision.history.is_empty(), "{at:?} {observed:?} leaves no trace");
            } else {
                assert_same(&saga, &before, &decision.progress);
                assert!(decision.commands.is_empty() && decision.history.is_empty());
            }
            assert_goes_on(&decision.progress, at, observed);
            let expected = expected(at, observed);
            if then != expected {
                wrong.push(format!("{at:?}\n  {observed:?}\n  {then:?}, expected {expected:?}"));
            }
            cases += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases > 5_000, "only {cases} cases");
}

/// A saga that has not ended and is not parked waits for something that has a timer.
fn assert_goes_on(progress: &Progress, at: Situation, observed: Observed) {
    match progress.status() {
        Status::Running | Status::Compensating if at.heading != Heading::NotStarted => {
            assert!(progress.next_due().is_some(), "{at:?} {observed:?} waits for ever");
        }
        Status::Running | Status::Compensating | Status::Completed | Status::Compensated => {}
        Status::Parked => assert!(progress.next_due().is_none()),
    }
}

#[test]
fn a_state_that_cannot_be_is_refused_or_at_least_harmless() {
    for at in situations().filter(|&at| !is_legal(at)) {
        let saga = definition(at.kind);
        let made = progress(&saga, at);
        if at.heading == Heading::NotStarted {
            continue; // Never stored.
        }
        let bytes = made.encode(saga.definition()).expect("the data can be encoded");
        for observed in events() {
            let Ok(before) =
                Progress::decode(saga.definition(), SAGA, made.status(), bytes.clone())
            else {
                break;
            };
            let (event, now) = event(at, observed);
            let decision = decide(saga.definition(), before, event, now);
            if at.has_ended() {
                assert_eq!(decision.progress.status(), made.status(), "{at:?} {observed:?}");
                assert!(decision.commands.is_empty(), "{at:?} {observed:?}");
            }
        }
    }
}
