//! What to store and what to send.

use crate::machine::{HistoryEntry, Progress};
use crate::{MessageId, MessageType, ParticipantName, Payload, StepName};

/// The machine's answer to an event.
#[derive(Debug)]
#[must_use = "a decision has no effect until it is stored"]
pub struct Decision {
    /// Where the saga stands now.
    pub progress: Progress,
    /// Whether the event changed anything.
    pub verdict: Verdict,
    /// What to send, in order.
    pub commands: Vec<OutgoingCommand>,
    /// What happened, in order.
    pub history: Vec<HistoryEntry>,
}

/// Whether an event changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did: store the progress and send the commands.
    Applied,
    /// It did not; the progress is as it was.
    Ignored(Ignored),
    /// It asked for something that is not safe here, in plain words why; the progress is as it was.
    Refused(&'static str),
}

/// Why an event changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// The saga has ended.
    Ended,
    /// The saga has started already.
    Started,
    /// The reply is for a command that is not outstanding.
    NotOutstanding,
    /// The reply says that an attempt failed that is not the latest one.
    EarlierAttempt,
    /// No timer is due yet.
    NotDue,
    /// It is under way already.
    UnderWay,
}

impl Ignored {
    /// Returns the reason as a word for a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Started => "started",
            Self::NotOutstanding => "not-outstanding",
            Self::EarlierAttempt => "earlier-attempt",
            Self::NotDue => "not-due",
            Self::UnderWay => "under-way",
        }
    }
}

/// A command that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingCommand {
    /// Names the command; the same over all its attempts.
    pub id: MessageId,
    /// The step that it belongs to.
    pub step: StepName,
    /// Who carries it out.
    pub participant: ParticipantName,
    /// What the payload is.
    pub message_type: MessageType,
    /// The command itself.
    pub payload: Payload,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many of them were made before an operator had it tried anew: these do not count any more.
    pub attempts_before: u32,
    /// For a compensation, the command that it undoes.
    pub compensates: Option<MessageId>,
    /// For a compensation, whether the step is known to have succeeded; else its outcome is unknown
    /// and there may be nothing to undo.
    pub succeeded: bool,
}
