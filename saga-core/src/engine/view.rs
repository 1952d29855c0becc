//! What can be seen of a saga from outside.

use std::fmt;
use std::sync::Arc;

use crate::definition::Definition;
use crate::machine::{Failure, Progress, Status, StepView};
use crate::store::{Snapshot, Version};
use crate::{Cause, IdempotencyKey, SagaData, SagaId, SagaName};

/// Where a saga stands, as it is stored.
pub struct SagaView {
    snapshot: Snapshot,
    definition: Option<Arc<Definition>>,
    progress: Option<Progress>,
}

impl SagaView {
    pub(super) const fn new(
        snapshot: Snapshot,
        definition: Option<Arc<Definition>>,
        progress: Option<Progress>,
    ) -> Self {
        Self { snapshot, definition, progress }
    }

    /// Returns the saga.
    #[must_use]
    pub const fn saga(&self) -> SagaId {
        self.snapshot.saga
    }

    /// Returns how often it was committed; each change of it is one more.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.snapshot.version
    }

    /// Returns the name of its definition.
    #[must_use]
    pub const fn name(&self) -> &SagaName {
        &self.snapshot.new.name
    }

    /// Returns the version of its definition.
    #[must_use]
    pub const fn definition_version(&self) -> u32 {
        self.snapshot.new.definition_version
    }

    /// Returns the key that it was started under.
    #[must_use]
    pub const fn key(&self) -> Option<&IdempotencyKey> {
        self.snapshot.new.key.as_ref()
    }

    /// Returns where it stands as a whole.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.snapshot.status
    }

    /// Returns where its steps stand, those to come included; nothing if its definition is not registered.
    #[must_use]
    pub fn steps(&self) -> Vec<StepView> {
        match (&self.definition, &self.progress) {
            (Some(definition), Some(progress)) => progress.steps(definition).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns why it is parked, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.progress.as_ref().and_then(Progress::failure)
    }

    /// Returns why it compensates, if it does or did.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.progress.as_ref().and_then(Progress::cause)
    }

    /// Returns its data, if it is of this type.
    #[must_use]
    pub fn data<D: SagaData>(&self) -> Option<&D> {
        self.progress.as_ref().and_then(Progress::data)
    }
}

impl fmt::Debug for SagaView {
    /// Leaves the data out: it may hold what must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaView")
            .field("saga", &self.saga())
            .field("name", self.name())
            .field("status", &self.status())
            .field("steps", &self.steps())
            .finish_non_exhaustive()
    }
}
