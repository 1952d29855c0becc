//! One transition of each kind: where the saga stands, and what is observed then.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use saga_core::machine::{
    Decision, Event, Operation, OperatorAction, Origin, Progress, ReplyEvent, Status, decide,
};
use saga_core::message::Outcome;
use saga_core::{CorrelationId, Payload, Saga, SagaId, Timestamp};
use uuid::Uuid;

use crate::{Order, saga};

static SAGA: LazyLock<Saga<Order>> =
    LazyLock::new(|| saga().expect("the saga of the benches is sound"));

/// The same saga in each run, so that instruction counts repeat.
const ID: SagaId = SagaId(Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0001));
/// When each saga starts.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Later than each deadline and each retry.
const LATER: Duration = Duration::from_mins(1);

/// What is observed of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was accepted; its first command is sent.
    Started,
    /// Its first step succeeded; the second command is sent.
    Succeeded,
    /// Its second step is refused; the first one is undone.
    Rejected,
    /// Its first step failed; a retry is scheduled.
    Failed,
    /// Nobody has answered in time; the command is sent again.
    NoReply,
    /// The time of a retry has come; the command is sent again.
    RetryDue,
    /// Somebody wants it undone; what is outstanding is awaited.
    CancelRequested,
    /// A person lets a parked saga try again; the command is sent again.
    OperatorRetry,
}

impl Kind {
    /// Each kind.
    pub const ALL: [Self; 8] = [
        Self::Started,
        Self::Succeeded,
        Self::Rejected,
        Self::Failed,
        Self::NoReply,
        Self::RetryDue,
        Self::CancelRequested,
        Self::OperatorRetry,
    ];

    /// Returns its name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::NoReply => "no_reply",
            Self::RetryDue => "retry_due",
            Self::CancelRequested => "cancel_requested",
            Self::OperatorRetry => "operator_retry",
        }
    }
}

/// A decision that is about to be made.
#[derive(Debug)]
pub struct Transition {
    progress: Progress,
    event: Event,
    now: Timestamp,
}

impl Transition {
    /// Brings a saga to where an event of this kind comes.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Started => accepted(),
            Kind::Succeeded => answered(accepted().decide(), Outcome::Succeeded),
            Kind::Rejected => answered(authorizing(), Outcome::Rejected("card-declined".into())),
            Kind::Failed => answered(accepted().decide(), failed()),
            Kind::NoReply => later(accepted().decide()),
            Kind::RetryDue => later(answered(accepted().decide(), failed()).decide()),
            Kind::CancelRequested => {
                Self { progress: half_way(), event: Event::CancelRequested, now: START }
            }
            Kind::OperatorRetry => {
                let parked = Outcome::FailedPermanently("no such article".into());
                let progress = answered(accepted().decide(), parked).decide().progress;
                Self { progress, event: Event::Operator(retry()), now: START }
            }
        }
    }

    /// Makes the decision.
    pub fn decide(self) -> Decision {
        decide(SAGA.definition(), self.progress, self.event, self.now)
    }
}

/// Brings a saga to where its second step is outstanding.
#[must_use]
pub fn half_way() -> Progress {
    authorizing().progress
}

/// Turns a progress into what a commit stores.
#[must_use]
pub fn encode_state(progress: &Progress) -> Bytes {
    progress.encode(SAGA.definition()).expect("an order can be encoded")
}

/// Reads back what was encoded of a saga that is half way.
#[must_use]
pub fn decode_state(state: Bytes) -> Progress {
    let progress = Progress::decode(SAGA.definition(), ID, Status::Running, state);
    progress.expect("it was encoded for this definition")
}

fn accepted() -> Transition {
    let origin =
        Origin { correlation: CorrelationId::from(ID), causation: None, traceparent: None };
    let progress = Progress::start(SAGA.definition(), ID, origin, Order::new(1));
    Transition { progress, event: Event::Started, now: START }
}

fn authorizing() -> Decision {
    answered(accepted().decide(), Outcome::Succeeded).decide()
}

/// The command that a decision sends is answered.
fn answered(decision: Decision, outcome: Outcome) -> Transition {
    let command = &decision.commands[0];
    let payload = Payload::from(b"{}".to_vec());
    let reply = ReplyEvent { command: command.id, attempt: command.attempt, outcome, payload };
    Transition { progress: decision.progress, event: Event::Reply(reply), now: START }
}

fn later(decision: Decision) -> Transition {
    Transition {
        progress: decision.progress,
        event: Event::TimerFired { reachable_since: Timestamp::default() },
        now: START + LATER,
    }
}

fn failed() -> Outcome {
    Outcome::FailedTransiently("the warehouse is away".into())
}

fn retry() -> Operation {
    let (by, reason) = ("anna".to_owned(), "the article is there again".to_owned());
    Operation { by, reason, action: OperatorAction::Retry }
}
