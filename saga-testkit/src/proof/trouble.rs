//! What can go wrong on the way to a participant and back.

use std::fmt;

use saga_core::StepName;

/// Which of a step's two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Side {
    Action,
    Compensation,
}

/// Something that goes wrong with a command of one step, whoever sends it and however often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) step: StepName,
    pub(super) side: Side,
    pub(super) kind: TroubleKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TroubleKind {
    /// Refused for a business reason; the participant never sees it.
    Rejected,
    /// The first attempt fails, and may be made again.
    FailsOnce,
    /// Every attempt fails.
    Fails,
    /// It cannot be carried out by the program as it is.
    FailsForGood,
    /// The first attempt never arrives.
    LostOnce,
    /// No attempt arrives.
    Lost,
    /// It is carried out, and the reply arrives after the deadline.
    SlowSuccess,
    /// It is carried out, and the reply arrives when the saga has come to rest.
    LateSuccess,
    /// It is refused, and that is known only after the deadline.
    SlowRejection,
    /// It is refused, and that is known when the saga has come to rest.
    LateRejection,
    /// It arrives when the saga has come to rest.
    Late,
    /// It arrives twice.
    Twice,
}

impl TroubleKind {
    /// What can happen to an action.
    pub(super) const OF_ACTIONS: [Self; 12] = [
        Self::Rejected,
        Self::FailsOnce,
        Self::Fails,
        Self::FailsForGood,
        Self::LostOnce,
        Self::Lost,
        Self::SlowSuccess,
        Self::LateSuccess,
        Self::SlowRejection,
        Self::LateRejection,
        Self::Late,
        Self::Twice,
    ];

    /// What can happen to a compensation, which must not be refused.
    pub(super) const OF_COMPENSATIONS: [Self; 8] = [
        Self::FailsOnce,
        Self::Fails,
        Self::FailsForGood,
        Self::LostOnce,
        Self::Lost,
        Self::SlowSuccess,
        Self::LateSuccess,
        Self::Twice,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Rejected => "is rejected",
            Self::FailsOnce => "fails, then succeeds",
            Self::Fails => "fails every time",
            Self::FailsForGood => "fails for good",
            Self::LostOnce => "is lost once",
            Self::Lost => "never arrives",
            Self::SlowSuccess => "succeeds after the deadline",
            Self::LateSuccess => "succeeds, known when all is over",
            Self::SlowRejection => "is rejected after the deadline",
            Self::LateRejection => "is rejected, known when all is over",
            Self::Late => "arrives when all is over",
            Self::Twice => "arrives twice",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Action => "action",
            Self::Compensation => "compensation",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of `{}` {}", self.side, self.step, self.kind.text())
    }
}
