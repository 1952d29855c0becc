//! Putting an engine together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use super::counters::Counting;
use super::registry::{Registry, StartOn};
use super::worker::{Parts, Worker};
use super::{Engine, Shared};
use crate::definition::{Data, DefinitionError, Saga};
use crate::message::Message;
use crate::participant::Participant;
use crate::store::SagaStore;
use crate::store::erased::{DynSagaStore, LocalStore};
use crate::time::{DynClock, SystemClock};
use crate::transport::Transport;
use crate::transport::erased::{DynTransport, Erased};
use crate::{Clock, Codec, Error, Fact, IdempotencyKey, ParticipantName, SagaData};

/// Builds an [`Engine`].
///
/// | setting | default |
/// |---|---|
/// | [`transport`](Self::transport) | none: every participant is [local](Self::local) |
/// | [`clock`](Self::clock) | [`SystemClock`] |
/// | [`tick_max`](Self::tick_max) | 512 |
/// | [`cache_max`](Self::cache_max) | 50 000 sagas |
#[must_use = "a builder does nothing until `start` is called"]
pub struct EngineBuilder<S: SagaStore> {
    name: ParticipantName,
    store: LocalStore<S>,
    transport: Option<Arc<dyn DynTransport>>,
    registry: Registry,
    clock: Arc<dyn DynClock>,
    tick_max: usize,
    cache_max: usize,
    error: Option<DefinitionError>,
}

/// How many requests wait for a tick before callers wait for room.
const REQUESTS_MAX: usize = 1024;

impl<S: SagaStore> EngineBuilder<S> {
    pub(super) fn new(name: ParticipantName, store: S) -> Self {
        Self {
            name,
            store: LocalStore { store, participants: BTreeMap::new() },
            transport: None,
            registry: Registry::default(),
            clock: Arc::new(SystemClock::new()),
            tick_max: 512,
            cache_max: 50_000,
            error: None,
        }
    }

    /// Registers a definition. Several versions of one name stand side by side: new sagas follow the
    /// highest, running ones the version that they started on.
    pub fn saga<D: SagaData>(mut self, saga: Saga<D>) -> Self {
        if let Err(error) = self.registry.add(saga.into_definition()) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Sends commands to other services, and receives their replies, over a transport.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(Erased(transport)));
        self
    }

    /// Runs a participant inside the engine's own transactions: no message and no inbox.
    ///
    /// The participant's database is the engine's store. A step's effect is committed together with
    /// the saga's progress, so it happens exactly once. A saga goes on in one transaction for up to
    /// eight steps while their participants are inside: often it takes one commit from its start to
    /// its end, and a crash leaves all of it or nothing.
    ///
    /// What handlers lock is locked until that commit, so call nothing slow in them: that is what
    /// [`handle_external`](crate::ParticipantBuilder::handle_external) is for, in a service of its own.
    /// If one fails, or the saga's key is taken, the transaction is rolled back, and handlers that
    /// had succeeded in it run again; there is one step of each saga in the next.
    ///
    /// Facts that its handlers tell are published by the engine if it has a transport, else by a
    /// [`Relay`](crate::Relay) on the same store.
    pub fn local(mut self, participant: Participant<S::Connection>) -> Self {
        let name = participant.name().clone();
        self.store.participants.insert(name, participant);
        self
    }

    /// Starts a saga whenever a fact is published that `start` makes data and a key from.
    ///
    /// The key makes a fact that is delivered twice start one saga. The saga carries on the fact's
    /// correlation id and trace.
    pub fn start_on<F: Fact, D: SagaData>(
        mut self,
        start: impl Fn(F) -> Option<(IdempotencyKey, D)> + Send + Sync + 'static,
    ) -> Self {
        let trigger = StartOn {
            saga: D::SAGA,
            source: F::SOURCE,
            trigger: Box::new(move |envelope| {
                let fact = <F as Message>::Codec::decode(envelope.payload.as_bytes())?;
                Ok(start(fact).map(|(key, data)| {
                    let data: Data = Box::new(data);
                    (key, data)
                }))
            }),
        };
        self.registry.start_on(F::TYPE, trigger);
        self
    }

    /// Sets the clock; the default is the machine's. The store's clock corrects it.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the most transitions of one tick; the default is 512, 0 counts as 1.
    pub fn tick_max(mut self, transitions: usize) -> Self {
        self.tick_max = transitions.max(1);
        self
    }

    /// Sets how many running sagas are kept in memory at most; the default is 50 000. There are fewer
    /// if what is stored of them has more than 64 MiB.
    ///
    /// A saga that is not in memory is read when something happens to it.
    pub fn cache_max(mut self, sagas: usize) -> Self {
        self.cache_max = sagas;
        self
    }

    /// Checks the definitions and starts the engine on the current Tokio runtime.
    ///
    /// Topics that are missing are created once the broker answers. A broker or a store that is away
    /// is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Definition`] if a version is registered twice, a fact is to start an unknown saga, a local participant handles facts or has
    /// no handler for a command that a saga sends it, or commands leave the process and there is no transport.
    pub fn start(self) -> Result<Engine, Error> {
        self.check()?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let stop = CancellationToken::new();
        let store: Arc<dyn DynSagaStore> = Arc::new(self.store);
        let registry = Arc::new(self.registry);
        let counting = Arc::new(Counting::default());
        let worker = Worker::new(Parts {
            name: self.name.clone(),
            registry: Arc::clone(&registry),
            store: Arc::clone(&store),
            transport: self.transport,
            clock: self.clock,
            requests,
            stop: stop.clone(),
            tick_max: self.tick_max,
            cache_max: self.cache_max,
            counting: Arc::clone(&counting),
        });
        let task = tokio::spawn(worker.run().instrument(info_span!("engine", name = %self.name)));
        let task = Mutex::new(Some(task));
        let (name, requests) = (self.name, sender);
        let shared = Shared { name, registry, store, requests, stop, counting, task };
        Ok(Engine { shared: Arc::new(shared) })
    }

    fn check(&self) -> Result<(), DefinitionError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if let Some((fact, saga)) = self.registry.unknown_start() {
            return Err(DefinitionError::UnknownSaga { fact, saga });
        }
        if let Some((participant, fact)) = self.store.a_local_fact() {
            return Err(DefinitionError::LocalFact { participant, fact });
        }
        for definition in self.registry.definitions() {
            for (participant, command) in definition.commands() {
                let saga = definition.name().clone();
                let (participant, command) = (participant.clone(), command.clone());
                if self.store.is_local(&participant) {
                    if !self.store.has_local_handler(&participant, &command) {
                        return Err(DefinitionError::MissingHandler { saga, participant, command });
                    }
                } else if self.transport.is_none() {
                    return Err(DefinitionError::NoTransport { saga, participant });
                }
            }
        }
        Ok(())
    }
}

impl<S: SagaStore> fmt::Debug for EngineBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
