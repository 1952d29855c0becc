//! A participant at work: takes commands and facts from its topics, a batch at a time.

use std::collections::{BTreeSet, HashSet};
use std::iter::once;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::careful::Care;
use super::external::Calls;
use super::incoming::{Incoming, Origin};
use super::telemetry::Telemetry;
use super::writing::Written;
use super::{Inbox, Participant};
use crate::held::Held;
use crate::outage::Outage;
use crate::outlet::{Outlet, TIDY_AFTER};
use crate::pace::Pace;
use crate::policy::retry::Backoff;
use crate::stopping;
use crate::store::{Lane, REDRIVE_LEASE};
use crate::time::now;
use crate::transport::erased::{DynSubscriber, DynTransport};
use crate::transport::{Delivery, Received, Subscription};
use crate::{Error, MessageId, ParticipantName, Topic, TransportError};

/// Most commands of one transaction.
pub(super) const BATCH_MAX: usize = 512;
/// How often a command that failed is tried at once, before the saga's policy decides.
pub(super) const QUICK_TRIES: u32 = 3;
pub(super) const QUICK_BACKOFF: Backoff =
    Backoff::exponential(Duration::from_millis(10), Duration::from_millis(100));
/// How often the outbox is searched for rows that a slowly dying owner of our partitions left.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Service<S: Inbox> {
    pub(super) participant: Participant<S::Connection>,
    pub(super) store: S,
    transport: Arc<dyn DynTransport>,
    pub(super) outlet: Outlet,
    pub(super) telemetry: Telemetry,
    pub(super) commands: Topic,
    pub(super) events: Topic,
    /// The size of the events topic, once it is known.
    pub(super) event_partitions: Option<u32>,
    pub(super) owned: BTreeSet<u32>,
    /// The keys whose facts wait.
    pub(super) held: Held,
    pub(super) care: Care,
    pub(super) pace: Pace,
    pub(super) calls: Calls,
    /// Where the messages came from that are done with and not acknowledged yet.
    pub(super) done: Vec<Origin>,
    /// Letters that were handed out and stay, for they were set aside again or wait.
    pub(super) kept: HashSet<MessageId>,
    next_sweep: Instant,
    pub(super) stop: CancellationToken,
}

impl<S: Inbox> Service<S> {
    pub(super) fn new(
        participant: Participant<S::Connection>,
        store: S,
        transport: Arc<dyn DynTransport>,
        stop: CancellationToken,
    ) -> Self {
        let commands = participant.name.commands();
        Self {
            telemetry: Telemetry::new(&participant.name, &commands),
            commands,
            events: participant.name.events(),
            event_partitions: None,
            owned: BTreeSet::new(),
            held: Held::default(),
            care: Care::default(),
            pace: Pace::new(BATCH_MAX),
            calls: Calls::default(),
            done: Vec::new(),
            kept: HashSet::new(),
            next_sweep: Instant::now() + SWEEP_EVERY,
            outlet: Outlet::new(Arc::clone(&transport), &participant.name),
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
        info!("taking messages");
        let mut grace_is_over = pin!(stopping::grace_is_over(&stop));
        let worked = loop {
            if stop.is_cancelled() && !self.calls.are_made() {
                break Ok(());
            }
            let stepped = tokio::select! {
                biased;
                stepped = self.step(&mut *subscriber, &stop) => stepped,
                // What was not committed is rolled back and comes again.
                () = &mut grace_is_over => break Ok(()),
            };
            if let Err(error) = stepped {
                if stop.is_cancelled() {
                    // A batch that is left must not take the calls with it that are being made.
                    continue;
                }
                error!(error = &error as &dyn std::error::Error, "participant stops");
                break Err(error);
            }
        };
        stopping::close(self.close(subscriber)).await;
        worked
    }

    async fn close(&mut self, subscriber: Box<dyn DynSubscriber>) {
        self.end_all_attempts().await;
        self.outlet.drain().await;
        stopping::farewell(self.tidy()).await;
        if let Err(error) = subscriber.close().await {
            warn!(%error, "could not leave the group in order; some commands will be delivered again");
        }
    }

    /// Ends the attempts of what is cut off: whoever carries it out next is not to think that it kills.
    async fn end_all_attempts(&mut self) {
        // A call that is still made ends here.
        self.calls = Calls::default();
        let cut_off = self.care.end_all();
        match stopping::farewell(self.end_attempts(&cut_off)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => warn!(%error, "what was cut off counts as a death of this process"),
            None => warn!("the store hangs; what was cut off counts as a death of this process"),
        }
    }

    /// Waits for the broker, makes sure of the topics, and joins the group.
    async fn connect(&mut self) -> Result<Box<dyn DynSubscriber>, Error> {
        let facts = self.participant.sources().into_iter().map(ParticipantName::events);
        let inputs: Vec<_> = once(self.commands.clone()).chain(facts).collect();
        let others = inputs.iter().map(Topic::dead_letters).chain([self.events.clone()]);
        // It may handle facts of its own.
        let topics: BTreeSet<_> = inputs.iter().cloned().chain(others).collect();
        let topics = Vec::from_iter(topics);
        let subscription = Subscription { group: self.participant.name.clone(), topics: inputs };
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
        let is_stopping = stop.is_cancelled();
        let appetite = self.pace.appetite().min(self.calls.room());
        let is_hungry = appetite > 0 && self.outlet.has_room() && !is_stopping;
        tokio::select! {
            // In this order, so that a run can be repeated; a sweep is not put off by what keeps coming.
            biased;
            () = stop.cancelled(), if !is_stopping => {}
            called = self.calls.answered(), if self.calls.are_made() => self.record_calls(called).await?,
            () = tokio::time::sleep_until(self.next_sweep), if !is_stopping => self.sweep().await?,
            received = subscriber.receive(appetite), if is_hungry => match received {
                Ok(Received::Deliveries(deliveries)) => {
                    self.handle(deliveries.into_iter().map(|it| (None, it))).await?;
                }
                Ok(Received::Assigned(partitions)) => {
                    self.owned.extend(partitions.iter().map(|it| it.number));
                    self.outlet.fall_behind(partitions.iter().map(|it| it.number));
                    self.care.begin(partitions);
                    self.held.forget();
                }
                Ok(Received::Revoked(partitions)) => {
                    debug!(?partitions, "partitions handed over");
                    let lost: BTreeSet<_> = partitions.iter().map(|it| it.number).collect();
                    self.owned.retain(|number| !lost.contains(number));
                    self.outlet.leave(lost);
                    let handed_over = self.care.end(&partitions.into_iter().collect());
                    self.end_attempts(&handed_over).await?;
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
        self.acknowledge(subscriber).await?;
        self.read_back().await
    }

    /// Handles deliveries, and letters with their ids, until their outcome is durable, or a call of them is being made.
    async fn handle(
        &mut self,
        received: impl Iterator<Item = (Option<MessageId>, Delivery)> + Send,
    ) -> Result<(), Error> {
        self.learn_held().await?;
        let mut messages = Vec::new();
        let (mut broken, mut set_aside) = (Written::default(), Vec::new());
        for (letter, delivery) in received {
            match self.participant.read(&delivery) {
                Ok(Some(envelope)) => {
                    let name = &self.participant.name;
                    messages.push(Incoming::new(name, envelope, delivery, letter));
                }
                Ok(None) if letter.is_some() => {
                    // Another version handled it. It is handed out again, as often as any, and then rests.
                    warn!(letter = ?letter, topic = %delivery.position.topic, "no handler for a message that was redriven");
                }
                Ok(None) => self.done.push(Origin::new(letter, delivery.position)),
                Err((reason, detail)) => {
                    set_aside.push(Origin::new(letter, delivery.position.clone()));
                    self.set_aside(&mut broken, delivery, letter, reason, &detail, 0);
                }
            }
        }
        if !set_aside.is_empty() {
            self.write(broken).await?;
            self.done.append(&mut set_aside);
        }
        self.carry_out(messages).await
    }

    /// Asks the store which keys are held, if that is not known.
    async fn learn_held(&mut self) -> Result<(), Error> {
        if !self.held.is_known() && self.participant.a_fact().is_some() {
            let name = &self.participant.name;
            let keys = Outage::outlasted(&self.stop, || self.store.held(name)).await?;
            self.held.learn(keys);
        }
        Ok(())
    }

    /// Tells whoever handed out the commands that are done with.
    async fn acknowledge(&mut self, subscriber: &mut dyn DynSubscriber) -> Result<(), Error> {
        let (mut positions, mut letters) = (Vec::new(), Vec::new());
        for origin in self.done.drain(..) {
            match origin {
                Origin::Delivery(position) => positions.push(position),
                Origin::Letter(letter) => letters.push(letter),
            }
        }
        if !positions.is_empty() {
            subscriber.acknowledge(&positions);
        }
        // Somebody may have asked again for what was set aside again.
        letters.retain(|letter| !self.kept.remove(letter));
        if letters.is_empty() {
            return Ok(());
        }
        Outage::outlasted(&self.stop, || self.store.settled(&letters)).await?;
        // What waited behind them is next.
        self.held.forget();
        Ok(())
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
            self.outlet.searched(unsent, now());
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
        let begun = Instant::now();
        // Others may have settled what a letter waits for.
        self.held.forget();
        self.handle(letters.into_iter().map(|it| (Some(it.id), it.into_delivery()))).await?;
        // There may be more; as much time is for what comes meanwhile.
        self.next_sweep = Instant::now() + begun.elapsed();
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
