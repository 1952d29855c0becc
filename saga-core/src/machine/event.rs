//! What was observed.

use crate::message::Outcome;
use crate::{MessageId, Payload, StepName, Timestamp};

/// Something that a saga may have to react to.
#[derive(Debug, Clone)]
pub enum Event {
    /// The saga was accepted.
    Started,
    /// A participant answered.
    Reply(ReplyEvent),
    /// A deadline, a retry or a wait may be due; which ones are follows from the time.
    TimerFired {
        /// Since when participants could be reached, as far as is known. A command that was outstanding
        /// then has its whole deadline from that time on: an outage uses up no attempt.
        reachable_since: Timestamp,
    },
    /// Somebody wants the saga undone.
    CancelRequested,
    /// A person acts on the saga.
    Operator(Operation),
}

/// A participant's answer to a command.
#[derive(Debug, Clone)]
pub struct ReplyEvent {
    /// The command that is answered.
    pub command: MessageId,
    /// The attempt that is answered, from 1.
    pub attempt: u32,
    /// How it went.
    pub outcome: Outcome,
    /// The reply, if it succeeded.
    pub payload: Payload,
}

/// What a person does to a saga, with who and why for the record.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Who acts.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What is to be done.
    pub action: OperatorAction,
}

/// What a person can do to a saga.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OperatorAction {
    /// Try again what a parked saga failed at, with all attempts anew, whose numbers go on.
    Retry,
    /// Go on as if what a parked saga failed at had not been asked for: a step is skipped, a compensation counts as done.
    /// Refused unless it says who decides it and why.
    Skip,
    /// Go on with an outcome that was found out by other means. Refused unless it says who decides it and why.
    Resolve(Resolution),
    /// Let a step's timer fire at another time; at a time that is past it fires at once, also if its
    /// participant could not be reached lately. Refused if it has fired or was moved meanwhile, so that it cannot be
    /// moved twice by mistake.
    MoveTimer {
        /// The step that waits.
        step: StepName,
        /// When its timer was to fire: [`StepView::due`](crate::machine::StepView::due).
        from: Timestamp,
        /// When it is to fire instead.
        to: Timestamp,
    },
    /// Undo the saga, as [`Engine::cancel`](crate::Engine::cancel) does, with who and why in the entry of the cancel.
    /// Nothing is done, and nothing noted, if it is being undone already or is undone.
    Cancel,
}

/// The outcome of a step that was found out by other means.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// It was carried out; this is the reply.
    Succeeded(Payload),
    /// It was not carried out, for this reason.
    Rejected(String),
}
