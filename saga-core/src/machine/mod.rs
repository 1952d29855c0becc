//! What happens next: pure, no I/O, no clock.

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its steps are being carried out.
    Running,
    /// Its steps are being compensated.
    Compensating,
    /// Every step succeeded. The saga has ended.
    Completed,
    /// Every effect was compensated. The saga has ended.
    Compensated,
    /// It cannot go on by itself; a person must look.
    Parked,
}

impl Status {
    /// Returns true if the saga has ended: completed or compensated.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}
