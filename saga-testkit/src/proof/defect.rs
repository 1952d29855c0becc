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

impl Defect {
    /// All of them; without the feature `planted-defects` those of the machine are left out.
    pub const ALL: &[Self] = &[
        Self::NoInbox,
        Self::AcknowledgedFirst,
        Self::OutboxOutside,
        Self::SentBeforeAcknowledged,
        Self::ReadsAfterTheLast,
        Self::NoBarrier,
        Self::NoVersionCheck,
        Self::NoOrder,
        Self::BeginsAtTheEnd,
        Self::IdPerAttempt,
        #[cfg(feature = "planted-defects")]
        Self::LateReplyCounts,
        #[cfg(feature = "planted-defects")]
        Self::CompensatesForward,
    ];

    /// Lets the machine do wrong on this thread what this defect is, if it is one of the machine.
    pub fn plant(defect: Option<Self>) {
        #[cfg(feature = "planted-defects")]
        saga_core::planted::plant(defect.and_then(Self::of_the_machine));
        #[cfg(not(feature = "planted-defects"))]
        let _ = defect;
    }

    #[cfg(feature = "planted-defects")]
    const fn of_the_machine(self) -> Option<saga_core::planted::Defect> {
        match self {
            Self::LateReplyCounts => Some(saga_core::planted::Defect::LateReplyCounts),
            Self::CompensatesForward => Some(saga_core::planted::Defect::CompensatesForward),
            _ => None,
        }
    }
}
