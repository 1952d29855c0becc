//! What a list of sagas leaves out, and what it tells of each.

use crate::machine::Status;
use crate::{IdempotencyKey, SagaId, SagaName, Timestamp};

/// Which sagas; all by default. What is given must all apply.
///
/// ```
/// use saga_core::store::SagaFilter;
/// use saga_core::{SagaName, Status};
///
/// let filter = SagaFilter::all().name(SagaName::new("place-order")).status(Status::Parked);
/// # let _ = filter;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// Only those that follow a definition of this name.
    pub name: Option<SagaName>,
    /// Only those that stand there.
    pub status: Option<Status>,
}

impl SagaFilter {
    /// Leaves nothing out.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Leaves out other definitions.
    #[must_use]
    pub fn name(self, name: SagaName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Leaves out those that stand elsewhere.
    #[must_use]
    pub fn status(self, status: Status) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Returns true if a saga is one of these.
    #[must_use]
    pub fn matches(&self, saga: &ListedSaga) -> bool {
        self.name.as_ref().is_none_or(|it| *it == saga.name)
            && self.status.is_none_or(|it| it == saga.status)
    }
}

/// What a list tells of a saga. Its state is not read for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSaga {
    /// The saga.
    pub saga: SagaId,
    /// The definition that it follows.
    pub name: SagaName,
    /// The version of the definition.
    pub definition_version: u32,
    /// The key that it was started under.
    pub key: Option<IdempotencyKey>,
    /// Where it stands.
    pub status: Status,
    /// When it was committed first, by the store's clock.
    pub started_at: Timestamp,
    /// When it was committed last, by the store's clock.
    pub updated_at: Timestamp,
}
