//! A saga's story, told by a test: what it asks for, what it is answered, how much time passes.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use saga_core::machine::{
    HistoryEntry, HistoryKind, Operation, OperatorAction, Status, StepState, StepView,
};
use saga_core::message::{CommandHeaders, Kind, Outcome, ReplyHeaders};
use saga_core::transport::{Delivery, Received, Record, Subscription};
use saga_core::{
    Clock as _, Codec as _, Command, Engine, Envelope, IdempotencyKey, MemoryStore,
    MemoryTransport, Message, MessageId, MessageType, ParticipantName, Payload, Publisher, Saga,
    SagaData, SagaId, SagaStore, Subscriber, SystemClock, Timestamp, Topic, Transport,
};
use tokio::time::timeout;

/// Whoever plays in it.
const NAME: ParticipantName = ParticipantName::new("scenario");
/// How long something is waited for that must happen: on a real broker, first of all for partitions.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who moves timers. The timeline does not mention it.
const CLOCK: &str = "the clock of the scenario";

/// One saga, whose participants are played by a test.
///
/// A script reads as the story goes: the saga [`asks`](Self::asks), the test answers, [time
/// passes](Self::passes), the saga [ends](Self::ends). Whatever else happens than the script says
/// fails the test, with the timeline so far.
///
/// The same script runs [in memory](Self::in_memory) and [on a real store and broker](Self::on): time
/// passes by moving the saga's timers, so no clock has to be held.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use saga_core::*;
/// use saga_testkit::Scenario;
/// # use serde::{Deserialize, Serialize};
/// # const SHOP: ParticipantName = ParticipantName::new("shop");
/// # #[derive(Serialize, Deserialize)] struct Done;
/// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
/// # macro_rules! command { ($name:ident) => {
/// #     #[derive(Serialize, Deserialize)] struct $name { order: String }
/// #     impl Message for $name { const TYPE: MessageType = MessageType::new(stringify!($name)); type Codec = Json; }
/// #     impl Command for $name { type Reply = Done; const PARTICIPANT: ParticipantName = SHOP; }
/// # }}
/// # command!(Reserve);
/// # command!(Release);
/// # command!(Charge);
/// # #[derive(Serialize, Deserialize)] struct Order { id: String }
/// # impl SagaData for Order { const SAGA: SagaName = SagaName::new("place-order"); type Codec = Json; }
/// # struct ReserveStock;
/// # impl Step<Order> for ReserveStock {
/// #     const NAME: StepName = StepName::new("reserve-stock"); type Command = Reserve;
/// #     fn command(&self, data: &Order) -> Reserve { Reserve { order: data.id.clone() } }
/// # }
/// # impl Compensate<Order> for ReserveStock {
/// #     type Compensation = Release;
/// #     fn compensation(&self, data: &Order, _: &Cause) -> Release { Release { order: data.id.clone() } }
/// # }
/// # struct ChargeCard;
/// # impl Step<Order> for ChargeCard {
/// #     const NAME: StepName = StepName::new("charge-card"); type Command = Charge;
/// #     fn command(&self, data: &Order) -> Charge { Charge { order: data.id.clone() } }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), DefinitionError> {
/// let place_order = Saga::<Order>::builder().step(ReserveStock).pivot(ChargeCard).build()?;
/// let mut story = Scenario::in_memory(place_order, Order { id: "o-1".into() }).await;
///
/// story.asks::<Reserve>().await.succeeds(Done).await;
/// story.asks::<Charge>().await; // nobody answers
/// story.passes(Duration::from_secs(30)).await;
/// let again = story.asks::<Charge>().await;
/// assert_eq!((again.attempt(), &*again.command().order), (2, "o-1"));
/// again.rejects("card-declined").await;
/// story.asks::<Release>().await.succeeds(Done).await;
/// story.ends(Status::Compensated).await;
///
/// let told = story.timeline().await;
/// assert!(told.contains(&"charge-card, attempt 2: rejected (card-declined)".to_owned()));
/// # Ok(()) }
/// # use saga_core::machine::Status;
/// ```
pub struct Scenario<T: Transport> {
    engine: Engine,
    saga: SagaId,
    publisher: Arc<T::Publisher>,
    subscriber: T::Subscriber,
    /// What was asked for and the script has not come to.
    asked: VecDeque<Envelope>,
    /// The attempts that were received; the broker may deliver one twice.
    received: HashSet<(MessageId, u32)>,
}

/// A command that a saga sent. It is answered, more than once if need be, late, or never.
///
/// An answer that the saga waits for has been taken when the call returns; of one that comes late nobody knows when.
pub struct Asked<T: Transport, C: Command> {
    command: C,
    envelope: Envelope,
    headers: CommandHeaders,
    publisher: Arc<T::Publisher>,
    engine: Engine,
}

impl Scenario<MemoryTransport> {
    /// Starts a saga on a store and a transport in memory.
    pub async fn in_memory<D: SagaData>(saga: Saga<D>, data: D) -> Self {
        Self::on(MemoryStore::new(), MemoryTransport::new(), saga, data).await
    }
}

impl<T: Transport + Clone> Scenario<T> {
    /// Starts a saga on this store and this transport, with an engine of its own.
    ///
    /// The participants' topics should be nobody else's: their own handlers would answer as well.
    pub async fn on<D: SagaData>(
        store: impl SagaStore,
        transport: T,
        saga: Saga<D>,
        data: D,
    ) -> Self {
        let definition = saga.definition();
        let topics: Vec<_> =
            definition.participants().into_iter().map(ParticipantName::commands).collect();
        let events = definition.participants().into_iter().map(ParticipantName::events);
        let both: Vec<_> = topics.iter().cloned().chain(events).collect();
        transport.ensure_topics(&both).await.expect("the broker answers");
        let publisher = Arc::new(transport.publisher().await.expect("the broker answers"));
        let id = SagaId::now();
        let group = ParticipantName::parse(format!("{NAME}-{id}")).expect("a short name");
        let subscriber = transport.subscriber(Subscription { group, topics }).await;
        let subscriber = subscriber.expect("the topics are there");
        let engine = Engine::builder(NAME, store).saga(saga).transport(transport);
        let engine = engine.start().expect("the saga and the transport fit");
        let key = IdempotencyKey::new(id.to_string()).expect("a short key");
        let started = engine.start(key, data).await.expect("the saga starts");
        let (saga, asked, received) = (started.saga(), VecDeque::new(), HashSet::new());
        Self { engine, saga, publisher, subscriber, asked, received }
    }

    /// Returns the engine, to [operate](Engine::operate) or to [inspect](Engine::inspect) the saga.
    #[must_use = "asking for the engine changes nothing"]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the saga.
    #[must_use]
    pub const fn saga(&self) -> SagaId {
        self.saga
    }

    /// Waits for the saga to send a command of this type; others that it has sent are left for later.
    ///
    /// # Panics
    ///
    /// If it does not in 30 s, or sends one that cannot be read.
    pub async fn asks<C: Command>(&mut self) -> Asked<T, C> {
        let envelope = self.next(&C::TYPE).await;
        let Kind::Command(headers) = envelope.kind.clone() else {
            unreachable!("only commands are kept");
        };
        let command = <C as Message>::Codec::decode(envelope.payload.as_bytes());
        let command =
            command.unwrap_or_else(|error| panic!("a {} cannot be read: {error}", C::TYPE));
        let (publisher, engine) = (Arc::clone(&self.publisher), self.engine.clone());
        Asked { command, envelope, headers, publisher, engine }
    }

    async fn next(&mut self, message_type: &MessageType) -> Envelope {
        let found = timeout(PATIENCE, async {
            loop {
                let is_it = |it: &Envelope| it.message_type == *message_type;
                if let Some(index) = self.asked.iter().position(is_it) {
                    return self.asked.remove(index).expect("it was just seen");
                }
                self.receive().await;
            }
        });
        let Ok(envelope) = found.await else {
            let instead: Vec<_> = self.asked.iter().map(|it| it.message_type.as_str()).collect();
            panic!(
                "the saga does not ask for {message_type}; open are {instead:?}\n{}",
                told(&self.engine, self.saga).await.join("\n")
            );
        };
        envelope
    }

    async fn receive(&mut self) {
        let received = self.subscriber.receive(100).await.expect("the broker answers");
        let Received::Deliveries(deliveries) = received else { return };
        let positions: Vec<_> = deliveries.iter().map(|it| it.position.clone()).collect();
        for Delivery { value, .. } in deliveries {
            let Ok(envelope) = Envelope::decode(value) else { continue };
            let Kind::Command(headers) = &envelope.kind else { continue };
            if headers.saga == self.saga && self.received.insert((envelope.id, headers.attempt)) {
                self.asked.push_back(envelope);
            }
        }
        self.subscriber.acknowledge(&positions);
    }

    /// Lets time pass for the saga: its deadlines, retries and waits come nearer by this, and what is
    /// due happens. What becomes due by *that* needs another call.
    ///
    /// # Panics
    ///
    /// If the saga has ended.
    pub async fn passes(&mut self, time: Duration) {
        let now = SystemClock::new().now();
        for StepView { name: step, due, .. } in steps(&self.engine, self.saga).await {
            let Some(due) = due else { continue };
            // What is due is long due: the engine goes by the store's clock, which may be behind ours.
            let to = if due <= now + time { Timestamp::default() } else { due - time };
            let (by, reason) = (CLOCK.to_owned(), String::new());
            let action = OperatorAction::MoveTimer { step, from: due, to };
            let moved = self.engine.operate(self.saga, Operation { by, reason, action }).await;
            moved.expect("a timer that runs can be moved");
        }
    }

    /// Asks for the saga to be undone.
    ///
    /// # Panics
    ///
    /// If that is not possible any more.
    pub async fn cancels(&mut self) {
        self.engine.cancel(self.saga).await.expect("it can still be undone");
    }

    /// Waits for the saga to end, or to park, as it should.
    ///
    /// # Panics
    ///
    /// If it ends otherwise, or not in 30 s, or has asked for something that the script does not mention.
    pub async fn ends(&mut self, status: Status) {
        let end = timeout(PATIENCE, self.engine.outcome(self.saga)).await;
        let told = told(&self.engine, self.saga).await.join("\n");
        let end = end.unwrap_or_else(|_| panic!("the saga does not end\n{told}"));
        assert_eq!(end.expect("the engine works"), status, "\n{told}");
        let history = history(&self.engine, self.saga).await;
        let sent = history.iter().filter(|entry| is_sent(entry.kind)).count();
        let all = async {
            while self.received.len() < sent {
                self.receive().await;
            }
        };
        timeout(PATIENCE, all).await.expect("what the saga has sent arrives");
        let open: Vec<_> = self.asked.iter().map(|it| it.message_type.as_str()).collect();
        assert!(open.is_empty(), "the script does not mention {open:?}\n{told}");
    }

    /// Returns what happened to the saga, a line each: `reserve-stock: command sent`, `saga completed`.
    ///
    /// A second attempt and those after it have their number, and what is known more stands in brackets:
    /// `charge-card, attempt 2: rejected (card-declined)`.
    pub async fn timeline(&mut self) -> Vec<String> {
        told(&self.engine, self.saga).await
    }
}

async fn steps(engine: &Engine, saga: SagaId) -> Vec<StepView> {
    let view = engine.inspect(saga).await.expect("the store answers");
    view.expect("the saga is there").steps()
}

async fn history(engine: &Engine, saga: SagaId) -> Vec<HistoryEntry> {
    engine.history(saga).await.expect("the store answers")
}

/// Returns true if a command is sent by what happens.
const fn is_sent(kind: HistoryKind) -> bool {
    matches!(kind, HistoryKind::CommandSent | HistoryKind::CompensationSent)
}

async fn told(engine: &Engine, saga: SagaId) -> Vec<String> {
    let history = history(engine, saga).await;
    let is_told =
        |it: &&HistoryEntry| it.kind != HistoryKind::Operator || !it.detail.contains(CLOCK);
    history.iter().filter(is_told).map(line).collect()
}

fn line(entry: &HistoryEntry) -> String {
    let HistoryEntry { kind, step, attempt, detail, .. } = entry;
    let step = match step {
        Some(step) if *attempt > 1 => format!("{step}, attempt {attempt}: "),
        Some(step) => format!("{step}: "),
        None => String::new(),
    };
    let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
    format!("{step}{kind}{detail}")
}

impl<T: Transport, C: Command> Asked<T, C> {
    /// Returns the command.
    pub const fn command(&self) -> &C {
        &self.command
    }

    /// Returns which attempt it is, from 1.
    pub const fn attempt(&self) -> u32 {
        self.headers.attempt
    }

    /// Answers that it was carried out.
    pub async fn succeeds(&self, reply: C::Reply) {
        let payload = <C::Reply as Message>::Codec::encode(&reply).expect("the reply is encodable");
        self.answer(Outcome::Succeeded, payload).await;
    }

    /// Answers that it was refused, for a business reason.
    pub async fn rejects(&self, code: &str) {
        self.answer(Outcome::Rejected(code.to_owned()), Payload::default()).await;
    }

    /// Answers that it failed for now; the step's policy decides.
    pub async fn fails(&self, why: &str) {
        self.answer(Outcome::FailedTransiently(why.to_owned()), Payload::default()).await;
    }

    /// Answers that it cannot be carried out by the program as it is; the saga parks.
    pub async fn fails_for_good(&self, why: &str) {
        self.answer(Outcome::FailedPermanently(why.to_owned()), Payload::default()).await;
    }

    async fn answer(&self, outcome: Outcome, payload: Payload) {
        let CommandHeaders { saga, step, attempt, reply_partition, .. } = self.headers.clone();
        let envelope = Envelope {
            id: MessageId::now(),
            message_type: <C::Reply as Message>::TYPE,
            source: C::PARTICIPANT,
            correlation: self.envelope.correlation.clone(),
            causation: Some(self.envelope.id),
            traceparent: None,
            timestamp: SystemClock::new().now(),
            kind: Kind::Reply(ReplyHeaders { saga, step, attempt, outcome }),
            payload,
        };
        let topic: Topic = C::PARTICIPANT.events();
        let (partition, key) = (reply_partition, saga.to_string().into());
        let record =
            Record { topic, partition, key, value: envelope.encode(), headers: Vec::new() };
        let is_awaited = self.is_awaited().await;
        self.publisher.publish(vec![record]).await.expect("the broker takes it");
        let taken = async {
            while is_awaited && self.is_awaited().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, taken).await.expect("the saga takes the answer");
    }

    /// Returns true as long as the saga waits for the answer to this very attempt.
    async fn is_awaited(&self) -> bool {
        let CommandHeaders { saga, step, attempt, compensates, .. } = &self.headers;
        let state = match compensates {
            None => StepState::Outstanding,
            Some(_) => StepState::Compensating,
        };
        let steps = steps(&self.engine, *saga).await;
        steps.iter().any(|it| it.name == *step && it.state == state && it.attempt == *attempt)
    }
}

impl<T: Transport> fmt::Debug for Scenario<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("saga", &self.saga).finish_non_exhaustive()
    }
}

impl<T: Transport, C: Command> fmt::Debug for Asked<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("command", &C::TYPE)
            .field("attempt", &self.headers.attempt)
            .finish_non_exhaustive()
    }
}
