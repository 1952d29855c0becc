//! Defects that are planted, to see whether a proof sees them.

/// Something that is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// Participants do not remember what they did.
    NoInbox,
    /// Commands are acknowledged before they are carried out.
    AcknowledgedFirst,
    /// Replies are put into the outbox after the transaction.
    OutboxOutside,
    /// Rows of the outbox are deleted before the broker has them.
    SentBeforeAcknowledged,
    /// The outbox is only read after the last row that was read before.
    ReadsAfterTheLast,
    /// A compensation does not bar its action.
    NoBarrier,
    /// The store takes a commit that was decided on an older version.
    NoVersionCheck,
    /// Messages of one saga overtake each other on their way to the broker.
    NoOrder,
    /// A new group begins at the end of its topics.
    BeginsAtTheEnd,
    /// Each attempt has an id of its own.
    IdPerAttempt,
    /// A late reply changes the outcome of a step.
    #[cfg(feature = "planted-defects")]
    LateReplyCounts,
    /// Compensations are made in the order of the actions.
    #[cfg(feature = "planted-defects")]
    CompensatesForward,
}

#[cfg(feature = "planted-defects")]
impl Defect {
    /// Returns what the machine is to do wrong.
    pub(super) const fn of_the_machine(self) -> Option<saga_core::planted::Defect> {
        match self {
            Self::LateReplyCounts => Some(saga_core::planted::Defect::LateReplyCounts),
            Self::CompensatesForward => Some(saga_core::planted::Defect::CompensatesForward),
            _ => None,
        }
    }
}
