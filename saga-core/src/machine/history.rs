//! What happened to a saga, as it is kept for people.

use bytes::Bytes;
use prost::Message as _;

use crate::wire;
use crate::{StepName, Timestamp};

/// One thing that happened to a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When it was decided.
    pub at: Timestamp,
    /// What it was.
    pub kind: HistoryKind,
    /// The step that it happened to, if it happened to one.
    pub step: Option<StepName>,
    /// The attempt that it belongs to, from 1; 0 if to none.
    pub attempt: u32,
    /// More about it: a rejection's code, a failure's message, who acted and why.
    pub detail: String,
}

macro_rules! history_kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal,)*) => {
        /// What sort of thing happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum HistoryKind {
            $($(#[$doc])* $kind,)*
        }

        impl HistoryKind {
            /// Returns it in words, for a timeline.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $text,)*
                }
            }

            fn to_wire(self) -> wire::history_entry::Kind {
                match self {
                    $(Self::$kind => wire::history_entry::Kind::$kind,)*
                }
            }

            fn from_wire(kind: wire::history_entry::Kind) -> Option<Self> {
                match kind {
                    wire::history_entry::Kind::Unspecified => None,
                    $(wire::history_entry::Kind::$kind => Some(Self::$kind),)*
                }
            }
        }
    };
}

history_kinds! {
    /// The saga was accepted.
    Started = "saga started",
    /// A step's command was sent.
    CommandSent = "command sent",
    /// A step succeeded.
    Succeeded = "succeeded",
    /// A step was refused for a business reason.
    Rejected = "rejected",
    /// An attempt failed.
    AttemptFailed = "attempt failed",
    /// An attempt was not answered in time.
    TimedOut = "timed out",
    /// The next attempt was scheduled.
    RetryScheduled = "retry scheduled",
    /// A step was left out.
    Skipped = "skipped",
    /// The saga turned back.
    CompensationStarted = "compensation started",
    /// A compensation was sent.
    CompensationSent = "compensation sent",
    /// A step was undone.
    Compensated = "compensated",
    /// A compensation failed for good.
    CompensationFailed = "compensation failed",
    /// Somebody wanted the saga undone.
    CancelRequested = "cancel requested",
    /// The saga cannot go on by itself.
    Parked = "saga parked",
    /// A parked saga goes on.
    Resumed = "saga resumed",
    /// A person acted.
    Operator = "operator",
    /// Every step succeeded.
    Completed = "saga completed",
    /// Every effect was undone.
    SagaCompensated = "saga compensated",
    /// A wait began.
    WaitStarted = "wait started",
    /// A wait ended.
    WaitEnded = "wait ended",
}

impl std::fmt::Display for HistoryKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Turns entries into what a commit stores.
pub(crate) fn encode(entries: &[HistoryEntry]) -> Bytes {
    let entries = entries.iter().map(|entry| wire::HistoryEntry {
        at_us: entry.at.as_micros(),
        kind: entry.kind.to_wire().into(),
        step: entry.step.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempt: entry.attempt,
        detail: entry.detail.clone(),
    });
    wire::History { entries: entries.collect() }.encode_to_vec().into()
}

/// Reads entries back; an entry of a kind that this version does not know is left out.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<HistoryEntry>, prost::DecodeError> {
    let history = wire::History::decode(bytes)?;
    Ok(history
        .entries
        .into_iter()
        .filter_map(|entry| {
            Some(HistoryEntry {
                at: Timestamp::from_micros(entry.at_us),
                kind: HistoryKind::from_wire(entry.kind())?,
                step: StepName::parse(&entry.step).ok(),
                attempt: entry.attempt,
                detail: entry.detail,
            })
        })
        .collect())
}
