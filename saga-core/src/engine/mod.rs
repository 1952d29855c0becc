//! The engine acts: it gathers, decides, commits, publishes.
//!
//! An [`Engine`] runs sagas on a store and, if their participants are other services, a transport.
//! Its unit of work is the *tick*: while one commit is in flight everything that arrives is
//! gathered, and the next commit makes all of it durable at once. An idle engine commits single
//! transitions, a busy one hundreds together.
//!
//! Engines keep nothing that is not in the store. Several of them share the work: the partitions
//! that they receive replies from are divided among them, and if two ever decide about one saga,
//! the version check lets one commit and the other decide again. One that dies is replaced by the
//! others: its partitions move, what it had committed and not published is published again, and
//! its timers are found by their wake times.

mod builder;
mod cache;
mod counters;
mod local;
mod outgoing;
mod recovery;
mod redrive;
mod registry;
mod request;
mod round;
mod routing;
mod starts;
mod telemetry;
mod tick;
mod timers;
mod view;
mod work;
mod worker;
mod works;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::machine::{Event, HistoryEntry, Operation, Origin, Progress, Status, decode_history};
use crate::store::erased::DynSagaStore;
use crate::store::{DefinitionInUse, ListedSaga, SagaFilter, SagaStore, Version};
use crate::telemetry::traceparent;
use crate::{
    CorrelationId, Error, IdempotencyKey, ParticipantName, SagaData, SagaId, SagaName, StoreError,
};
use counters::Counting;
use registry::Registry;
use request::{Accepted, Happening, Input, Request, Requester, Start};

pub use builder::EngineBuilder;
pub use counters::Counters;
pub use view::SagaView;

/// Runs sagas. Clones share one engine; it works until it is shut down or the last clone is dropped.
///
/// # Examples
///
/// A saga whose participant lives in the same process and database:
///
/// ```
/// # use saga_core::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct Done;
/// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
/// # #[derive(Serialize, Deserialize)] struct Greet { name: String }
/// # impl Message for Greet { const TYPE: MessageType = MessageType::new("Greet"); type Codec = Json; }
/// # impl Command for Greet { type Reply = Done; const PARTICIPANT: ParticipantName = GREETER; }
/// # const GREETER: ParticipantName = ParticipantName::new("greeter");
/// # #[derive(Serialize, Deserialize)] struct Welcome { name: String }
/// # impl SagaData for Welcome { const SAGA: SagaName = SagaName::new("welcome"); type Codec = Json; }
/// # struct GreetStep;
/// # impl Step<Welcome> for GreetStep {
/// #     const NAME: StepName = StepName::new("greet"); type Command = Greet;
/// #     fn command(&self, data: &Welcome) -> Greet { Greet { name: data.name.clone() } }
/// # }
/// # struct Greeter;
/// # impl Handle<Greet, MemoryConnection<()>> for Greeter {
/// #     async fn handle(&self, _: Greet, _: &mut Context<'_, MemoryConnection<()>>) -> HandlerResult<Done> { Ok(Reply::succeeded(Done)) }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let saga = Saga::<Welcome>::builder().then(GreetStep).build()?;
/// let greeter = Participant::builder(GREETER).handle::<Greet>(Greeter).build()?;
/// let engine = Engine::builder(ParticipantName::new("welcomer"), MemoryStore::new())
///     .saga(saga)
///     .local(greeter)
///     .start()?;
///
/// let key = IdempotencyKey::new("visitor-1")?;
/// let welcome = engine.start(key, Welcome { name: "Ada".into() }).await?; // durable when this returns
/// assert_eq!(welcome.outcome().await?, Status::Completed);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "an engine whose last handle is dropped stops"]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    name: ParticipantName,
    registry: Arc<Registry>,
    store: Arc<dyn DynSagaStore>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
    counting: Arc<Counting>,
    task: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

/// A saga that was accepted: durable, and on its way.
#[derive(Debug, Clone)]
pub struct StartedSaga {
    saga: SagaId,
    is_new: bool,
    engine: Engine,
}

impl Engine {
    /// Begins an engine on a store. Its name is its consumer group and the source of its messages;
    /// no participant may have the same one.
    pub fn builder<S: SagaStore>(name: ParticipantName, store: S) -> EngineBuilder<S> {
        EngineBuilder::new(name, store)
    }

    /// Starts a saga under a key, once: a second start under the same key gives the saga of the first.
    ///
    /// The data of the two is not compared; [`StartedSaga::is_new`] tells them apart.
    ///
    /// When this returns the saga is durable: it will complete, be compensated, or park where an
    /// operator sees it, whatever crashes. It follows the highest registered version of its definition.
    /// Its first steps are done in the same commit if they are carried out [inside the engine](EngineBuilder::local).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownDefinition`] if no saga is registered for this data, [`Error::Refused`] if its
    /// first command cannot be made, [`Error::Stopped`]. While the store is away this waits.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have started the saga; the same key finds out.
    pub async fn start<D: SagaData>(
        &self,
        key: IdempotencyKey,
        data: D,
    ) -> Result<StartedSaga, Error> {
        self.start_as(SagaId::now(), key, data).await
    }

    /// As [`start`](Self::start), with an id of the caller's choice: simulations repeat themselves exactly.
    #[doc(hidden)]
    pub async fn start_as<D: SagaData>(
        &self,
        saga: SagaId,
        key: IdempotencyKey,
        data: D,
    ) -> Result<StartedSaga, Error> {
        let definition = self.shared.registry.latest_over(&D::SAGA, TypeId::of::<D>());
        let Some(definition) = definition.map(Arc::clone) else {
            return Err(Error::UnknownDefinition { name: D::SAGA });
        };
        let correlation = CorrelationId::from(saga);
        let origin = Origin { correlation, causation: None, traceparent: traceparent() };
        let (responder, answer) = oneshot::channel();
        let start = Start {
            saga,
            definition,
            key: Some(key),
            origin,
            data: Box::new(data),
            requester: Requester::Caller(responder),
        };
        self.ask(Request::Input(Input::Start(start))).await?;
        let Accepted { saga, is_new } = answer.await.unwrap_or(Err(Error::Stopped))?;
        Ok(StartedSaga { saga, is_new, engine: self.clone() })
    }

    /// Finds the saga that was started under a key, if one was.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store cannot be reached.
    pub async fn find(&self, name: SagaName, key: IdempotencyKey) -> Result<Option<SagaId>, Error> {
        let found = self.shared.store.find(&[(name, key)]).await?;
        Ok(found.into_iter().next().map(|(_, _, saga)| saga))
    }

    /// Asks for a saga to be undone. Does nothing if it is being compensated already, or is compensated.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it has reached its pivot or has completed, [`Error::UnknownSaga`], [`Error::Stopped`].
    pub async fn cancel(&self, saga: SagaId) -> Result<(), Error> {
        self.happen(saga, Event::CancelRequested, None).await
    }

    /// Does what a person decided: retry, skip or resolve what a parked saga failed at, move a timer, or undo it.
    ///
    /// Who acted and why goes into the saga's history in the same commit. It is done once, also if the answer to
    /// that commit is lost. Asked for again it acts on what is there then: a second skip skips what the saga has
    /// parked at meanwhile. [`operate_on`](Self::operate_on) does not.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the reason if it is not safe where the saga stands, [`Error::UnknownSaga`],
    /// [`Error::Stopped`]; whether it was done is in the saga's history then.
    pub async fn operate(&self, saga: SagaId, operation: Operation) -> Result<(), Error> {
        self.happen(saga, Event::Operator(operation), None).await
    }

    /// Does what a person decided who has looked at the saga: as [`operate`](Self::operate), but refused if anything
    /// has happened to it since. What is asked for twice, or by two persons, is so done once.
    ///
    /// # Errors
    ///
    /// As [`operate`](Self::operate).
    ///
    /// # Examples
    ///
    /// ```
    /// # use saga_core::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct Done;
    /// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
    /// # #[derive(Serialize, Deserialize)] struct Greet;
    /// # impl Message for Greet { const TYPE: MessageType = MessageType::new("Greet"); type Codec = Json; }
    /// # impl Command for Greet { type Reply = Done; const PARTICIPANT: ParticipantName = GREETER; }
    /// # const GREETER: ParticipantName = ParticipantName::new("greeter");
    /// # #[derive(Serialize, Deserialize)] struct Welcome;
    /// # impl SagaData for Welcome { const SAGA: SagaName = SagaName::new("welcome"); type Codec = Json; }
    /// # struct GreetStep;
    /// # impl Step<Welcome> for GreetStep {
    /// #     const NAME: StepName = StepName::new("greet"); type Command = Greet;
    /// #     fn command(&self, _: &Welcome) -> Greet { Greet }
    /// # }
    /// # struct Mute;
    /// # impl Handle<Greet, MemoryConnection<()>> for Mute {
    /// #     async fn handle(&self, _: Greet, _: &mut Context<'_, MemoryConnection<()>>) -> HandlerResult<Done> { Ok(Reply::rejected("mute")) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let saga = Saga::<Welcome>::builder().then(GreetStep).build()?;
    /// # let greeter = Participant::builder(GREETER).handle::<Greet>(Mute).build()?;
    /// # let engine = Engine::builder(ParticipantName::new("welcomer"), MemoryStore::new()).saga(saga).local(greeter).start()?;
    /// use saga_core::machine::{Operation, OperatorAction};
    ///
    /// # let welcome = engine.start(IdempotencyKey::new("visitor-1")?, Welcome).await?;
    /// # assert_eq!(welcome.outcome().await?, Status::Parked);
    /// let seen = engine.inspect(welcome.saga()).await?.expect("it is there");
    /// let skip = Operation {
    ///     by: "ada".to_owned(),
    ///     reason: "the visitor has left".to_owned(),
    ///     action: OperatorAction::Skip,
    /// };
    /// engine.operate_on(&seen, skip.clone()).await?;
    /// let again = engine.operate_on(&seen, skip).await; // a double click
    /// assert!(matches!(again, Err(Error::Refused { .. })));
    /// # Ok(()) }
    /// ```
    pub async fn operate_on(&self, seen: &SagaView, operation: Operation) -> Result<(), Error> {
        self.happen(seen.saga(), Event::Operator(operation), Some(seen.version())).await
    }

    /// Returns where a saga stands, as it is stored; `None` if there is no such saga.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store cannot be reached, or its state is damaged.
    pub async fn inspect(&self, saga: SagaId) -> Result<Option<SagaView>, Error> {
        let Some(snapshot) = self.shared.store.load(&[saga]).await?.pop() else {
            return Ok(None);
        };
        let definition =
            self.shared.registry.version(&snapshot.new.name, snapshot.new.definition_version);
        let progress = definition.and_then(|definition| {
            let state = snapshot.state.clone();
            Progress::decode(definition, saga, snapshot.status, state).ok()
        });
        Ok(Some(SagaView::new(snapshot, definition.map(Arc::clone), progress)))
    }

    /// Lists up to `limit` sagas, the newest first: those that started before the saga `after`, or the newest of all.
    ///
    /// These are all sagas of the store, whichever engine runs them, also of definitions that this one
    /// does not know. The last of a page is the `after` of the next. Between two pages nothing shifts: a
    /// saga that is there and matches all along is listed once, whatever starts or ends meanwhile.
    ///
    /// It costs what it shows if a status is asked for that few sagas have, or if many match. To find
    /// the few of a definition among many of others, the store may look at all of them.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store cannot be reached, or what is kept of one of these sagas is damaged.
    ///
    /// # Examples
    ///
    /// What waits for a person:
    ///
    /// ```
    /// # use saga_core::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct Done;
    /// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
    /// # #[derive(Serialize, Deserialize)] struct Greet;
    /// # impl Message for Greet { const TYPE: MessageType = MessageType::new("Greet"); type Codec = Json; }
    /// # impl Command for Greet { type Reply = Done; const PARTICIPANT: ParticipantName = GREETER; }
    /// # const GREETER: ParticipantName = ParticipantName::new("greeter");
    /// # #[derive(Serialize, Deserialize)] struct Welcome;
    /// # impl SagaData for Welcome { const SAGA: SagaName = SagaName::new("welcome"); type Codec = Json; }
    /// # struct GreetStep;
    /// # impl Step<Welcome> for GreetStep {
    /// #     const NAME: StepName = StepName::new("greet"); type Command = Greet;
    /// #     fn command(&self, _: &Welcome) -> Greet { Greet }
    /// # }
    /// # struct Mute;
    /// # impl Handle<Greet, MemoryConnection<()>> for Mute {
    /// #     async fn handle(&self, _: Greet, _: &mut Context<'_, MemoryConnection<()>>) -> HandlerResult<Done> { Ok(Reply::rejected("mute")) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let saga = Saga::<Welcome>::builder().then(GreetStep).build()?;
    /// # let greeter = Participant::builder(GREETER).handle::<Greet>(Mute).build()?;
    /// # let engine = Engine::builder(ParticipantName::new("welcomer"), MemoryStore::new()).saga(saga).local(greeter).start()?;
    /// use saga_core::store::SagaFilter;
    ///
    /// # for visitor in ["visitor-1", "visitor-2", "visitor-3"] {
    /// #     let welcome = engine.start(IdempotencyKey::new(visitor)?, Welcome).await?;
    /// #     assert_eq!(welcome.outcome().await?, Status::Parked);
    /// # }
    /// let parked = SagaFilter::all().status(Status::Parked);
    /// let (mut listed, mut after) = (Vec::new(), None);
    /// loop {
    ///     let page = engine.list(&parked, after, 2).await?;
    ///     let Some(last) = page.last() else { break };
    ///     after = Some(last.saga);
    ///     listed.extend(page);
    /// }
    /// let keys: Vec<_> = listed.iter().flat_map(|saga| &saga.key).map(IdempotencyKey::as_str).collect();
    /// assert_eq!(keys, ["visitor-3", "visitor-2", "visitor-1"]);
    /// # Ok(()) }
    /// ```
    pub async fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<ListedSaga>, Error> {
        Ok(self.shared.store.list(filter, after, limit).await?)
    }

    /// Lists the definitions that sagas are under way on and that this engine does not know: another
    /// version, or another shape under the same version. Such a saga parks when something happens to it here.
    ///
    /// An engine writes them to its log when it starts. It is empty if all is well; ask before the old
    /// version is removed, or in a check of whether the service is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store cannot be reached.
    pub async fn unknown_definitions(&self) -> Result<Vec<DefinitionInUse>, Error> {
        let mut in_use = self.shared.store.in_use().await?;
        in_use.retain(|shape| !self.shared.registry.knows(shape));
        Ok(in_use)
    }

    /// Returns what happened to a saga, oldest first; nothing for an unknown saga.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store cannot be reached, or the history is damaged.
    pub async fn history(&self, saga: SagaId) -> Result<Vec<HistoryEntry>, Error> {
        let mut entries = Vec::new();
        for record in self.shared.store.history(saga).await? {
            let decoded = decode_history(&record.entries)
                .map_err(|error| StoreError::Corrupt { saga, source: error.into() })?;
            entries.extend(decoded);
        }
        Ok(entries)
    }

    /// Waits until a saga has ended or is parked, whichever engine does it, and returns which.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if this engine stops first. For an unknown saga this waits for it to appear.
    ///
    /// # Cancel safety
    ///
    /// The saga goes on when the future is dropped.
    pub async fn outcome(&self, saga: SagaId) -> Result<Status, Error> {
        let (responder, answer) = oneshot::channel();
        self.ask(Request::Watch { saga, responder }).await?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Finishes the tick in hand (within 4 s), waits for the broker to have its messages (at most 3 s), and leaves the
    /// group. It takes 10 s at most, whatever does not answer.
    ///
    /// Sagas that are running go on in another engine, or in the next one.
    ///
    /// # Errors
    ///
    /// What made the engine stop before it was asked to, if something did.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.shared.stop.cancel();
        self.stopped().await
    }

    /// Waits until the engine stops by itself, which it does only for an error that no retry can mend.
    ///
    /// # Errors
    ///
    /// That error; [`Error::Stopped`] if somebody else was told it already.
    ///
    /// # Cancel safety
    ///
    /// The engine goes on when the future is dropped.
    pub async fn stopped(&self) -> Result<(), Error> {
        let mut task = self.shared.task.lock().await;
        let Some(running) = task.as_mut() else { return Ok(()) };
        let stopped = running.await.unwrap_or(Err(Error::Stopped));
        *task = None;
        stopped
    }

    /// Returns what this engine has done since it started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counting.read()
    }

    /// Returns the engine's name.
    #[must_use]
    pub fn name(&self) -> &ParticipantName {
        &self.shared.name
    }

    async fn happen(&self, saga: SagaId, event: Event, seen: Option<Version>) -> Result<(), Error> {
        let (responder, answer) = oneshot::channel();
        let responder = Some(responder);
        let happening = Happening { responder, seen, ..Happening::new(saga, event, None) };
        self.ask(Request::Input(Input::Event(happening))).await?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    async fn ask(&self, request: Request) -> Result<(), Error> {
        self.shared.requests.send(request).await.map_err(|_| Error::Stopped)
    }
}

impl StartedSaga {
    /// Returns the id of the saga.
    #[doc(alias = "id")]
    #[must_use]
    pub const fn saga(&self) -> SagaId {
        self.saga
    }

    /// Returns false if the saga had been started under the same key before.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Waits until the saga has ended or is parked, and returns which.
    ///
    /// # Errors
    ///
    /// As [`Engine::outcome`].
    ///
    /// # Cancel safety
    ///
    /// The saga goes on when the future is dropped.
    pub async fn outcome(&self) -> Result<Status, Error> {
        self.engine.outcome(self.saga).await
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
