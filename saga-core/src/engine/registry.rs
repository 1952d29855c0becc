//! What an engine knows: definitions by name and version, and the facts that start sagas.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::definition::{Data, Definition};
use crate::message::Envelope;
use crate::store::DefinitionInUse;
use crate::{CodecError, DefinitionError, IdempotencyKey, MessageType, ParticipantName, SagaName};

/// Reads a fact and says which saga it starts, if any.
pub(super) type Trigger =
    Box<dyn Fn(&Envelope) -> Result<Option<(IdempotencyKey, Data)>, CodecError> + Send + Sync>;

/// A fact that starts sagas of one definition.
pub(super) struct StartOn {
    pub(super) saga: SagaName,
    pub(super) source: ParticipantName,
    pub(super) trigger: Trigger,
}

#[derive(Default)]
pub(super) struct Registry {
    definitions: HashMap<SagaName, BTreeMap<u32, Arc<Definition>>>,
    starts: HashMap<MessageType, StartOn>,
}

impl Registry {
    pub(super) fn add(&mut self, definition: Arc<Definition>) -> Result<(), DefinitionError> {
        let (name, version) = (definition.name().clone(), definition.version());
        let versions = self.definitions.entry(name.clone()).or_default();
        if versions.insert(version, definition).is_some() {
            return Err(DefinitionError::DuplicateDefinition { saga: name, version });
        }
        Ok(())
    }

    pub(super) fn start_on(&mut self, fact: MessageType, start: StartOn) {
        self.starts.insert(fact, start);
    }

    /// Returns the definition that a running saga follows.
    pub(super) fn version(&self, name: &SagaName, version: u32) -> Option<&Arc<Definition>> {
        self.definitions.get(name)?.get(&version)
    }

    /// Returns the definition that new sagas follow: the highest version.
    pub(super) fn latest(&self, name: &SagaName) -> Option<&Arc<Definition>> {
        self.definitions.get(name)?.values().next_back()
    }

    /// Returns the highest version if its data is of this type.
    pub(super) fn latest_over(&self, name: &SagaName, data: TypeId) -> Option<&Arc<Definition>> {
        self.latest(name).filter(|definition| definition.has_data_of(data))
    }

    pub(super) fn trigger(&self, fact: &MessageType) -> Option<&StartOn> {
        self.starts.get(fact)
    }

    /// Returns a fact that is to start a saga that is not registered, if there is one.
    pub(super) fn unknown_start(&self) -> Option<(MessageType, SagaName)> {
        let mut starts = self.starts.iter();
        let unknown = starts.find(|(_, start)| !self.definitions.contains_key(&start.saga))?;
        Some((unknown.0.clone(), unknown.1.saga.clone()))
    }

    /// Returns true if sagas can go on that started on this shape of a definition.
    pub(super) fn knows(&self, shape: &DefinitionInUse) -> bool {
        let known = self.version(&shape.saga, shape.version);
        known.is_some_and(|definition| definition.fingerprint() == shape.fingerprint)
    }

    pub(super) fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values().flat_map(BTreeMap::values)
    }

    /// Returns the services whose commands are sent or whose facts start sagas.
    pub(super) fn services(&self) -> BTreeSet<ParticipantName> {
        let participants = self
            .definitions()
            .flat_map(|definition| definition.commands().map(|(name, _)| name.clone()));
        participants.chain(self.starts.values().map(|start| start.source.clone())).collect()
    }
}
