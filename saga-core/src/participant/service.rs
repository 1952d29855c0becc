//! A participant at work: takes commands from its topic, a batch at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::careful::Care;
use super::pace::Pace;
use super::route::Route;
use super::writing::Written;
use super::{Inbox, Participant};
use crate::message::{Envelope, Kind, describe};
use crate::outage::Outage;
use crate::outlet::{Outlet, TIDY_AFTER};
use crate::policy::retry::Backoff;
use crate::store::{DeadLetter, Lane, REDRIVE_LEASE};
use crate::transport::erased::{DynSubscriber, DynTransport};
use crate::transport::{Delivery, Position, Received, Subscription};
use crate::{Clock as _, Error, SystemClock, Topic, TransportError};

/// Most commands of one transaction.
pub(super) const BATCH_MAX: usize = 512;
/// How often a command that failed is tried at once, before the saga's policy decides.
pub(super) const QUICK_TRIES: u32 = 3;
pub(super) const QUICK_BACKOFF: Backoff =
    Backoff::exponential(Duration::from_millis(10), Duration::from_millis(100));
/// How long a shutdown waits for the batch in hand.
const GRACE: Duration = Duration::from_secs(4);
/// How often the outbox is searched for rows that a slowly dying owner of our partitions left.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Service<S: Inbox> {
    pub(super) participant: Participant<S::Connection>,
    pub(super) store: S,
    transport: Arc<dyn DynTransport>,
    pub(super) outlet: Outlet,
    commands: Topic,
    pub(super) events: Topic,
    /// The size of the events topic, once it is known.
    pub(super) event_partitions: Option<u32>,
    pub(super) owned: BTreeSet<u32>,
    pub(super) care: Care,
    pub(super) pace: Pace,
    next_sweep: Instant,
    pub(super) stop: CancellationToken,
}

/// A command and the input partition that it came in.
pub(super) struct Incoming {
    pub(super) envelope: Envelope,
    pub(super) lane: u32,
}

impl<S: Inbox> Service<S> {
    pub(super) fn new(
        participant: Participant<S::Connection>,
        store: S,
        transport: Arc<dyn DynTransport>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            commands: participant.name.commands(),
            events: participant.name.events(),
            event_partitions: None,
            owned: BTreeSet::new(),
            care: Care::default(),
            pace: Pace::default(),
            next_sweep: Instant::now() + SWEEP_EVERY,
            outlet: Outlet::new(Arc::clone(&transport)),
            participant,
            store,
            transport,
            stop,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        let Some(subscriber) = stop.run_until_cancelled(self.connect()).await else {
            return Ok(());
        };
        let mut subscriber = subscriber?;
        info!("taking commands");
        let worked = loop {
            if stop.is_cancelled() {
                break Ok(());
            }
            let stepped = tokio::select! {
                biased;
                stepped = self.step(&mut *subscriber, &stop) => stepped,
                // What was not committed is rolled back and comes again.
                () = grace_is_over(&stop) => break Ok(()),
            };
            if let Err(error) = stepped {
                if stop.is_cancelled() {
                    break Ok(());
                }
                error!(error = &error as &dyn std::error::Error, "participant stops");
                break Err(error);
            }
        };
        self.outlet.drain().await;
        self.tidy().await;
        if let Err(error) = subscriber.close().await {
            warn!(%error, "could not leave the group in order; some commands will be delivered again");
        }
        worked
    }

    /// Waits for the broker, makes sure of the topics, and joins the group.
    async fn connect(&mut self) -> Result<Box<dyn DynSubscriber>, Error> {
        let topics = [self.commands.clone(), self.commands.dead_letters(), self.events.clone()];
        let subscription = Subscription {
            group: self.participant.name.clone(),
            topics: vec![self.commands.clone()],
        };
        let mut outage = Outage::new(&self.stop);
        loop {
            let connected = async {
                self.transport.ensure_topics(&topics).await?;
                self.event_partitions = Some(self.outlet.partitions(&self.events).await?);
                self.transport.subscriber(subscription.clone()).await
            };
            match connected.await {
                Ok(subscriber) => return Ok(subscriber),
                Err(error) => outage.outlast(error).await?,
            }
        }
    }

    /// Waits for something to happen and does what it asks for.
    async fn step(
        &mut self,
        subscriber: &mut dyn DynSubscriber,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        tokio::select! {
            // In this order, so that a run can be repeated; a sweep is not put off by what keeps coming.
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep_until(self.next_sweep) => self.sweep().await?,
            received = subscriber.receive(self.pace.appetite()), if self.outlet.has_room() => match received {
                Ok(Received::Deliveries(deliveries)) => {
                    let positions = self.handle(deliveries).await?;
                    subscriber.acknowledge(&positions);
                }
                Ok(Received::Assigned(partitions)) => {
                    self.owned.extend(partitions.iter().map(|it| it.number));
                    self.care.begin(partitions.iter().map(|it| it.number));
                    self.outlet.fall_behind(partitions.iter().map(|it| it.number));
                }
                Ok(Received::Revoked(partitions)) => {
                    debug!(?partitions, "partitions handed over");
                    self.owned.retain(|number| partitions.iter().all(|it| it.number != *number));
                    self.care.end(partitions.iter().map(|it| it.number));
                    self.outlet.leave(partitions.iter().map(|it| it.number));
                }
                Err(error @ TransportError::OffsetOutOfRange { .. }) => {
                    error!(%error, "this partition stands still until a person decides where it goes on");
                }
                Err(error) => Outage::new(stop).outlast(error).await?,
            },
            () = self.outlet.progress() => {}
            () = tokio::time::sleep(TIDY_AFTER), if self.outlet.has_acknowledged() => self.tidy().await,
        }
        self.outlet.collect();
        self.read_back().await
    }

    /// Handles deliveries until their outcome is durable; returns what to acknowledge.
    async fn handle(&mut self, deliveries: Vec<Delivery>) -> Result<Vec<Position>, Error> {
        let mut positions = Vec::with_capacity(deliveries.len());
        let mut commands = Vec::with_capacity(deliveries.len());
        let mut broken = Written::default();
        for delivery in deliveries {
            positions.push(delivery.position.clone());
            match read(&delivery) {
                Ok(envelope) => {
                    commands.push(Incoming { envelope, lane: delivery.position.partition });
                }
                Err((reason, detail)) => {
                    broken.set_aside(&self.participant.name, delivery, reason, &detail);
                }
            }
        }
        if !broken.dead_letters.is_empty() {
            self.write(&[], broken).await?;
        }
        self.carry_out(commands).await?;
        Ok(positions)
    }

    pub(super) async fn carry_out_at_once(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let (external, transactional): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|it| self.is_external(&it.envelope));
        self.handle_externals(external).await?;
        self.handle_transactionals(transactional).await
    }

    fn is_external(&self, command: &Envelope) -> bool {
        matches!(self.participant.routes.get(&command.message_type), Some(Route::External(_)))
    }

    /// Publishes what waits in the outbox for the partitions in question, a page at a time.
    pub(super) async fn read_back(&mut self) -> Result<(), Error> {
        while let Some((numbers, bytes)) = self.outlet.to_read_back() {
            self.tidy().await;
            let lanes = self.lanes(&numbers);
            let unsent = || self.store.unsent(&lanes, bytes);
            let rows = Outage::outlasted(&self.stop, unsent).await?;
            if !self.outlet.read_back(&numbers, bytes, rows) {
                break;
            }
        }
        Ok(())
    }

    /// Looks for rows of our partitions that an earlier owner committed after we had looked, and
    /// for letters that are to be handled again.
    async fn sweep(&mut self) -> Result<(), Error> {
        self.next_sweep = Instant::now() + SWEEP_EVERY;
        if let Some((numbers, bytes)) = self.outlet.to_search(&self.owned) {
            let unsent = self.store.unsent(&self.lanes(&numbers), bytes).await;
            self.outlet.searched(unsent, SystemClock::new().now());
        }
        self.handle_redriven().await
    }

    /// Handles letters that were asked for as if they had just been received.
    async fn handle_redriven(&mut self) -> Result<(), Error> {
        if self.owned.is_empty() || !self.outlet.has_room() {
            return Ok(());
        }
        let partitions: Vec<_> = self.owned.iter().copied().collect();
        let name = &self.participant.name;
        let letters = match self.store.redriven(name, &partitions, REDRIVE_LEASE, BATCH_MAX).await {
            Ok(letters) if letters.is_empty() => return Ok(()),
            Ok(letters) => letters,
            Err(error) => {
                warn!(%error, "letters to redrive cannot be taken; trying again");
                return Ok(());
            }
        };
        info!(letters = letters.len(), "messages redriven");
        let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
        self.handle(letters.into_iter().map(DeadLetter::into_delivery).collect()).await?;
        Outage::outlasted(&self.stop, || self.store.settled(&ids)).await?;
        // There may be more.
        self.next_sweep = Instant::now();
        Ok(())
    }

    /// Deletes what was sent, for a batch to come may be far.
    async fn tidy(&mut self) {
        if self.outlet.has_acknowledged() {
            let sent = self.outlet.take_acknowledged();
            let result = self.store.sent(&sent).await;
            self.outlet.deleted(sent, result);
        }
    }

    pub(super) fn lane(&self, number: u32) -> Lane {
        Lane::new(self.participant.name.clone(), number)
    }

    fn lanes<'a>(&self, numbers: impl IntoIterator<Item = &'a u32>) -> Vec<Lane> {
        numbers.into_iter().map(|&number| self.lane(number)).collect()
    }
}

/// Waits until a shutdown has waited long enough for the batch in hand.
async fn grace_is_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Reads a delivery as a command, or says why it is none.
fn read(delivery: &Delivery) -> Result<Envelope, (&'static str, String)> {
    let envelope = Envelope::decode(delivery.value.clone())
        .map_err(|error| ("undecodable", describe(&error)))?;
    match envelope.kind {
        Kind::Command(_) => Ok(envelope),
        Kind::Fact | Kind::Reply(_) => {
            Err(("not-a-command", format!("`{}` is no command", envelope.message_type)))
        }
    }
}
