//! The engine's loop: gather what has happened, run a tick, publish, acknowledge.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::cache::Cache;
use super::counters::Counting;
use super::local::LocalCall;
use super::registry::Registry;
use super::request::{Batch, Happening, Input, Request, Requester, Start};
use super::routing::Routing;
use super::telemetry::Telemetry;
use super::timers::Timers;
use super::work::{Broken, guarded};
use crate::held::Held;
use crate::machine::{Event, Origin, ReplyEvent, Status};
use crate::message::{Envelope, Kind, describe};
use crate::outage::Outage;
use crate::outlet::{Outlet, TIDY_AFTER};
use crate::pace::Pace;
use crate::stopping;
use crate::store::DeadLetter;
use crate::store::erased::DynSagaStore;
use crate::time::DynClock;
use crate::transport::erased::{DynSubscriber, DynTransport};
use crate::transport::{Delivery, Received, Record, Subscription};
use crate::{Error, MessageId, ParticipantName, SagaId, Timestamp, Topic, TransportError};

/// How often those who wait for a saga are told of its end in another engine.
const LOOK_AFTER_EVERY: Duration = Duration::from_secs(1);

/// A store that takes longer than this to answer was away.
const OUTAGE_MIN: Duration = Duration::from_secs(1);

/// How long a broker that could not be received from is left alone.
const RECEIVE_AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Worker {
    pub(super) name: ParticipantName,
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn DynSagaStore>,
    pub(super) clock: Arc<dyn DynClock>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) stop: CancellationToken,
    pub(super) tick_max: usize,
    pub(super) counting: Arc<Counting>,
    pub(super) telemetry: Telemetry,

    transport: Option<Arc<dyn DynTransport>>,
    subscriber: Option<Box<dyn DynSubscriber>>,
    connecting: Option<BoxFuture<'static, Result<Connected, Error>>>,
    pub(super) outlet: Option<Outlet>,
    pub(super) routing: Routing,

    pub(super) cache: Cache,
    pub(super) timers: Timers,
    /// Commands for participants inside this engine, each committed as outstanding.
    pub(super) local: VecDeque<LocalCall>,
    /// How many bytes of payload are in it.
    pub(super) local_bytes: usize,
    /// How many of them one transaction holds.
    pub(super) pace: Pace,
    /// Since when store and broker work without a break, as far as is known.
    pub(super) reachable_since: Timestamp,
    /// When the broker is asked again after it could not be received from.
    receive_again: Option<Instant>,
    /// The ids of what is in `local`.
    pub(super) local_ids: HashSet<MessageId>,
    pub(super) watchers: HashMap<SagaId, Vec<oneshot::Sender<Result<Status, Error>>>>,
    /// Sagas that somebody waits for and that do not run here, so that they may have ended.
    pub(super) to_look_after: Vec<SagaId>,
    next_look: Instant,
    /// Whether the definitions that are unknown here were named.
    pub(super) has_reported: bool,
    /// How far the store's clock is ahead of ours, in microseconds.
    pub(super) clock_offset_us: i64,
    pub(super) next_scan: Timestamp,
    /// Facts whose sagas cannot start, or not yet, to be set aside before they are acknowledged.
    pub(super) unstartable: Vec<(DeadLetter, Option<Record>)>,
    /// The keys whose facts wait.
    pub(super) held: Held,
    /// What was set aside and is to be handled again.
    pub(super) redriven: Vec<DeadLetter>,
}

/// What is known once the transport has answered.
struct Connected {
    subscriber: Box<dyn DynSubscriber>,
    inputs: Vec<u32>,
    outputs: HashMap<Topic, u32>,
}

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) name: ParticipantName,
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn DynSagaStore>,
    pub(super) transport: Option<Arc<dyn DynTransport>>,
    pub(super) clock: Arc<dyn DynClock>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) stop: CancellationToken,
    pub(super) tick_max: usize,
    pub(super) cache_max: usize,
    pub(super) counting: Arc<Counting>,
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { name, registry, store, transport, clock, requests, stop, .. } = parts;
        let connecting = transport.as_ref().map(|transport| {
            connect(Arc::clone(transport), name.clone(), &registry, stop.clone()).boxed()
        });
        Self {
            outlet: transport.as_ref().map(|it| Outlet::new(Arc::clone(it), &name)),
            telemetry: Telemetry::new(&name),
            next_scan: clock.now_dyn(),
            name,
            registry,
            store,
            clock,
            requests,
            stop,
            tick_max: parts.tick_max,
            counting: parts.counting,
            transport,
            subscriber: None,
            connecting,
            routing: Routing::default(),
            cache: Cache::new(parts.cache_max),
            timers: Timers::default(),
            local: VecDeque::new(),
            local_bytes: 0,
            pace: Pace::new(parts.tick_max),
            local_ids: HashSet::new(),
            watchers: HashMap::new(),
            to_look_after: Vec::new(),
            next_look: Instant::now(),
            has_reported: false,
            clock_offset_us: 0,
            reachable_since: Timestamp::default(),
            receive_again: None,
            unstartable: Vec::new(),
            held: Held::default(),
            redriven: Vec::new(),
        }
    }

    /// Returns the time, by the store's clock as far as it is known.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now_dyn().as_micros() + self.clock_offset_us)
    }

    /// Notes an outage of the store if it took so long to answer.
    pub(super) fn waited_for_the_store(&mut self, asked: Timestamp) {
        let now = self.now();
        if now.since(asked) > OUTAGE_MIN {
            self.reachable_since = now;
        }
    }

    /// Works until it is stopped, or until an error that no retry can mend.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        let worked = tokio::select! {
            biased;
            worked = self.work() => worked,
            // What was not committed is rolled back, and decided again by whoever has it next.
            () = stopping::grace_is_over(&stop) => Ok(()),
        };
        stopping::close(self.close()).await;
        worked
    }

    async fn work(&mut self) -> Result<(), Error> {
        while !self.stop.is_cancelled() {
            match self.turn().await {
                Ok(()) => {}
                Err(_) if self.stop.is_cancelled() => break,
                Err(error) => {
                    error!(error = &error as &dyn std::error::Error, "engine stops");
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn turn(&mut self) -> Result<(), Error> {
        if self.next_scan <= self.now() {
            self.scan().await?;
        }
        // After a commit with an unknown end, before anything is waited for.
        self.read_back().await?;
        let batch = self.gather().await?;
        // Of partitions that were just assigned, before anything is done for them.
        self.read_back().await?;
        let watched = std::mem::take(&mut self.to_look_after);
        self.look_after(&watched).await;
        if !batch.is_empty() || !self.local.is_empty() {
            let positions = self.tick(batch).await?;
            if let Some(subscriber) = &mut self.subscriber
                && !positions.is_empty()
            {
                subscriber.acknowledge(&positions);
            }
        }
        Ok(())
    }

    /// Waits until something has happened, then takes everything that has.
    async fn gather(&mut self) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        if self.local.is_empty() && self.redriven.is_empty() {
            self.wait(&mut batch).await?;
        }
        // Each source has its share of a full tick, so that none starves behind another.
        self.gather_timers(&mut batch, self.tick_max.div_ceil(4));
        self.gather_requests(&mut batch, self.tick_max.div_ceil(2));
        self.gather_redriven(&mut batch);
        self.gather_deliveries(&mut batch)?;
        // Acknowledgements that came meanwhile; they are deleted with the next tick.
        if let Some(outlet) = &mut self.outlet {
            outlet.collect();
        }
        Ok(batch)
    }

    async fn wait(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let wake = self.timers.next().map_or(self.next_scan, |next| next.min(self.next_scan));
        // The clock is ours; what is waited for is by the store's.
        let wake = Timestamp::from_micros(wake.as_micros() - self.clock_offset_us);
        let may_receive = self.may_receive();
        let receive_again = self.receive_again.unwrap_or(self.next_look);
        let has_sent = self.outlet.as_ref().is_some_and(Outlet::has_acknowledged);
        tokio::select! {
            // In this order, so that a run can be repeated; what loses here is gathered right after.
            biased;
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep_until(self.next_look), if !self.watchers.is_empty() => {
                self.next_look = Instant::now() + LOOK_AFTER_EVERY;
                self.look_after_all().await;
            }
            request = self.requests.recv() => match request {
                Some(request) => self.requested(request, batch),
                // Every handle is gone, so the stop is on its way.
                None => self.stop.cancelled().await,
            },
            () = tokio::time::sleep_until(receive_again), if self.receive_again.is_some() => {
                self.receive_again = None;
            }
            received = receive(self.subscriber.as_mut(), self.tick_max), if may_receive => {
                self.received(received, batch)?;
            }
            () = progress(self.outlet.as_mut()) => {}
            connected = connected(self.connecting.as_mut()) => self.connected(connected)?,
            () = self.clock.sleep_until_dyn(wake) => {}
            () = tokio::time::sleep(TIDY_AFTER), if has_sent => self.tidy().await,
        }
        Ok(())
    }

    /// Returns false while the broker takes nothing and enough waits for it: then nothing is taken from it
    /// either. The same for a while after it could not be received from.
    fn may_receive(&self) -> bool {
        self.receive_again.is_none() && self.outlet.as_ref().is_none_or(Outlet::has_room)
    }

    fn gather_requests(&mut self, batch: &mut Batch, share: usize) {
        for _ in 0..share {
            let Ok(request) = self.requests.try_recv() else { return };
            self.requested(request, batch);
        }
    }

    fn gather_deliveries(&mut self, batch: &mut Batch) -> Result<(), Error> {
        while batch.inputs.len() < self.tick_max && !batch.is_full() && self.may_receive() {
            let limit = self.tick_max - batch.inputs.len();
            match receive(self.subscriber.as_mut(), limit).now_or_never() {
                Some(received) => self.received(received, batch)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn gather_timers(&mut self, batch: &mut Batch, share: usize) {
        let now = self.now();
        if self.connecting.is_some() || self.outlet.as_ref().is_some_and(Outlet::is_stalled) {
            self.reachable_since = now;
        }
        let due = self.timers.take_due(now, share);
        if due.is_empty() {
            return;
        }
        // What waits for its turn in here is not answered because of us.
        let in_line: HashSet<_> = self.local.iter().map(|it| it.saga).collect();
        for (saga, due) in due {
            self.telemetry.timer_fired(now.since(due));
            let reachable_since = match in_line.contains(&saga) {
                true => now,
                false => self.reachable_since,
            };
            let fired = Event::TimerFired { reachable_since };
            batch.inputs.push(Input::Event(Happening::new(saga, fired, None)));
        }
    }

    fn requested(&mut self, request: Request, batch: &mut Batch) {
        match request {
            Request::Input(input) => batch.inputs.push(input),
            Request::Watch { saga, responder } => {
                self.watchers.entry(saga).or_default().push(responder);
                // One that runs here tells by itself when it ends.
                if !self.cache.contains(saga) {
                    self.to_look_after.push(saga);
                }
            }
        }
    }

    fn received(
        &mut self,
        received: Result<Received, TransportError>,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        match received {
            Ok(Received::Deliveries(deliveries)) => {
                for delivery in deliveries {
                    batch.positions.push(delivery.position.clone());
                    self.read(delivery, false, batch);
                }
            }
            Ok(Received::Assigned(partitions)) => {
                let assigned = self.routing.assign(&partitions);
                self.fall_behind(assigned);
                self.held.forget();
                // Sagas of these partitions may be overdue.
                self.next_scan = Timestamp::default();
            }
            Ok(Received::Revoked(partitions)) => {
                // A lane that is behind stays so: this engine may still commit for it, and that must
                // not overtake what waits in the store. Who owns it now may publish the same.
                self.routing.revoke(&partitions);
                let owned = self.routing.owned();
                self.cache.keep_homes(|home| owned.contains(&home));
                debug!(?partitions, "partitions handed over");
            }
            Err(error) if error.is_transient() => {
                self.reachable_since = self.now();
                self.receive_again = Some(Instant::now() + RECEIVE_AGAIN_AFTER);
                warn!(error = &error as &dyn std::error::Error, "receiving failed; trying again");
            }
            Err(error @ TransportError::OffsetOutOfRange { .. }) => {
                error!(%error, "this partition stands still until a person decides where it goes on");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads a delivery; one that means nothing to this engine is only acknowledged.
    pub(super) fn read(&mut self, delivery: Delivery, is_redriven: bool, batch: &mut Batch) {
        let envelope = match Envelope::decode(delivery.value.clone()) {
            Ok(envelope) => envelope,
            Err(error) => {
                return self.put_aside(delivery, "undecodable", &describe(&error), 0, batch);
            }
        };
        match &envelope.kind {
            Kind::Reply(reply) => {
                let answered = Event::Reply(ReplyEvent {
                    // The envelope makes sure of it.
                    command: envelope.causation.unwrap_or(envelope.id),
                    attempt: reply.attempt,
                    outcome: reply.outcome.clone(),
                    payload: envelope.payload,
                });
                let happening = Happening::new(reply.saga, answered, Some(envelope.id));
                batch.inputs.push(Input::Event(happening));
            }
            Kind::Fact => match self.start_from(&envelope, &delivery, is_redriven) {
                Ok(Some(start)) => batch.inputs.push(Input::Start(start)),
                Ok(None) => {}
                Err(Broken(problem)) => {
                    self.put_aside(delivery, "undecodable-fact", &problem, 1, batch);
                }
            },
            Kind::Command(_) => {
                let detail = format!("`{}` is a command on an events topic", envelope.message_type);
                self.put_aside(delivery, "unexpected-command", &detail, 0, batch);
            }
        }
    }

    fn put_aside(
        &mut self,
        delivery: Delivery,
        reason: &str,
        detail: &str,
        attempts: u32,
        batch: &mut Batch,
    ) {
        batch.set_aside_bytes += delivery.value.len();
        batch.dead_letters.push(self.dead_letter(delivery, reason, detail, attempts));
    }

    fn start_from(
        &self,
        fact: &Envelope,
        delivery: &Delivery,
        is_redriven: bool,
    ) -> Result<Option<Start>, Broken> {
        let Some(start) = self.registry.trigger(&fact.message_type) else {
            // What was set aside is of ours, or was of another version.
            let nothing = || Broken(format!("no saga starts on `{}` here", fact.message_type));
            return if is_redriven { Err(nothing()) } else { Ok(None) };
        };
        let Some(definition) = self.registry.latest(&start.saga) else {
            return Ok(None);
        };
        let Some((key, data)) = guarded(|| (start.trigger)(fact))? else {
            return Ok(None);
        };
        Ok(Some(Start {
            saga: SagaId::now(),
            definition: Arc::clone(definition),
            key: Some(key),
            origin: Origin {
                correlation: fact.correlation.clone(),
                causation: Some(fact.id),
                traceparent: fact.traceparent.clone(),
            },
            data,
            requester: Requester::Fact { delivery: Box::new(delivery.clone()), is_redriven },
        }))
    }

    fn connected(&mut self, connected: Result<Connected, Error>) -> Result<(), Error> {
        self.connecting = None;
        let Connected { subscriber, inputs, outputs } = connected?;
        self.routing.learn(&inputs, outputs);
        self.subscriber = Some(subscriber);
        info!("receiving replies");
        Ok(())
    }

    /// Deletes what was sent, for a tick to come may be far.
    pub(super) async fn tidy(&mut self) {
        if let Some(outlet) = &mut self.outlet
            && outlet.has_acknowledged()
        {
            let sent = outlet.take_acknowledged();
            let result = self.store.sent(&sent).await;
            outlet.deleted(sent, result);
        }
    }

    async fn close(&mut self) {
        self.requests.close();
        if let Some(outlet) = &mut self.outlet {
            outlet.drain().await;
        }
        stopping::farewell(self.tidy()).await;
        if let Some(subscriber) = self.subscriber.take()
            && let Err(error) = subscriber.close().await
        {
            warn!(%error, "could not leave the group in order; some messages will be delivered again");
        }
        // The transport outlives the subscriber: it may hold the connection of both.
        self.transport = None;
    }
}

/// Waits for the broker, makes sure of the topics, and joins the group.
fn connect(
    transport: Arc<dyn DynTransport>,
    name: ParticipantName,
    registry: &Registry,
    stop: CancellationToken,
) -> impl Future<Output = Result<Connected, Error>> + Send + use<> {
    let services = registry.services();
    let inputs: Vec<_> = services.iter().map(ParticipantName::events).collect();
    let outputs: Vec<_> = services.iter().map(ParticipantName::commands).collect();
    async move {
        let once = || connect_once(&*transport, &name, &inputs, &outputs);
        Outage::outlasted(&stop, once).await
    }
}

async fn connect_once(
    transport: &dyn DynTransport,
    name: &ParticipantName,
    inputs: &[Topic],
    outputs: &[Topic],
) -> Result<Connected, TransportError> {
    let dead_letters = inputs.iter().map(Topic::dead_letters);
    let topics: Vec<_> = inputs.iter().chain(outputs).cloned().chain(dead_letters).collect();
    transport.ensure_topics(&topics).await?;
    let publisher = transport.publisher().await?;
    let mut sizes = Vec::new();
    for topic in inputs {
        sizes.push(publisher.partitions(topic).await?);
    }
    let mut output_sizes = HashMap::new();
    for topic in outputs {
        output_sizes.insert(topic.clone(), publisher.partitions(topic).await?);
    }
    let subscription = Subscription { group: name.clone(), topics: inputs.to_vec() };
    let subscriber = transport.subscriber(subscription).await?;
    Ok(Connected { subscriber, inputs: sizes, outputs: output_sizes })
}

async fn receive(
    subscriber: Option<&mut Box<dyn DynSubscriber>>,
    limit: usize,
) -> Result<Received, TransportError> {
    match subscriber {
        Some(subscriber) => subscriber.receive(limit).await,
        None => std::future::pending().await,
    }
}

async fn progress(outlet: Option<&mut Outlet>) {
    match outlet {
        Some(outlet) => outlet.progress().await,
        None => std::future::pending().await,
    }
}

async fn connected(
    connecting: Option<&mut BoxFuture<'static, Result<Connected, Error>>>,
) -> Result<Connected, Error> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}
