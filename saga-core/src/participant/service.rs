//! A participant at work: takes commands from its topic, one batch a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use super::barrier::{Barrier, Recorded, Ruling, headers, ids, rounds};
use super::route::{Answer, Failure, Route};
use super::{Handled, Inbox, Participant};
use crate::message::{Envelope, Kind, ReplyHeaders, describe};
use crate::outage::Outage;
use crate::outlet::Outlet;
use crate::policy::dead_letter;
use crate::policy::retry::Backoff;
use crate::store::{DeadLetter, Lane, OutboxRow, StoreError};
use crate::transport::erased::{DynSubscriber, DynTransport, Erased};
use crate::transport::{Delivery, Position, Received, Record, Subscription, Transport};
use crate::{Clock as _, Error, MessageId, OutboxId, SystemClock, Topic, TransportError};

/// Most outbox rows that are read back at once; what is left is found by the next sweep.
const ROWS_MAX: usize = 10_000;
/// Most commands of one transaction.
const BATCH_MAX: usize = 512;
/// Most bytes that may be on their way to the broker before no more commands are taken.
const OUTLET_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often in a row a batch may meet what others record before it is taken apart.
const CONFLICTS_MAX: u32 = 10;
/// How often a command that failed is tried at once, before the saga's policy decides.
const QUICK_TRIES: u32 = 3;
const QUICK_BACKOFF: Backoff =
    Backoff::exponential(Duration::from_millis(10), Duration::from_millis(100));
/// How long a call to another system may take.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How long a shutdown waits for the batch in hand.
const GRACE: Duration = Duration::from_secs(4);
/// How long a quiet participant waits before it deletes what it has sent.
const TIDY_AFTER: Duration = Duration::from_millis(200);
/// How often the outbox is searched for rows that a slowly dying owner of our partitions left.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

impl<Conn: Send + 'static> Participant<Conn> {
    /// Starts to take commands, on a store and a transport, until it is shut down.
    ///
    /// Runs on the current Tokio runtime, and panics outside one. Creates the topics that it needs if
    /// they do not exist. A broker or a database that is away
    /// is waited for; a command is never given up for that.
    pub fn start<S>(self, store: S, transport: impl Transport) -> RunningParticipant
    where
        S: Inbox<Connection = Conn>,
    {
        let transport: Arc<dyn DynTransport> = Arc::new(Erased(transport));
        let stop = CancellationToken::new();
        let span = info_span!("participant", name = %self.name);
        let service = Service {
            commands: self.name.commands(),
            events: self.name.events(),
            event_partitions: None,
            owned: BTreeSet::new(),
            next_sweep: Instant::now() + SWEEP_EVERY,
            outlet: Outlet::new(Arc::clone(&transport)),
            participant: self,
            store,
            transport,
            stop: stop.clone(),
        };
        RunningParticipant { stop, task: Some(tokio::spawn(service.run().instrument(span))) }
    }
}

/// A participant that takes commands. Dropping it stops it without waiting.
#[must_use = "a participant that is dropped stops"]
pub struct RunningParticipant {
    stop: CancellationToken,
    /// Gone once its end was told.
    task: Option<JoinHandle<Result<(), Error>>>,
}

impl RunningParticipant {
    /// Finishes the batch in hand, waits for the broker to have the replies (at most 5 s), and leaves the group.
    ///
    /// # Errors
    ///
    /// What made it stop before it was asked to, if something did.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.stop.cancel();
        self.stopped().await
    }

    /// Waits until it stops by itself, which it does only for an error that no retry can mend.
    ///
    /// # Errors
    ///
    /// That error.
    ///
    /// # Cancel safety
    ///
    /// It goes on when the future is dropped.
    pub async fn stopped(&mut self) -> Result<(), Error> {
        let Some(running) = &mut self.task else { return Ok(()) };
        let stopped = running.await.unwrap_or(Err(Error::Stopped));
        self.task = None;
        stopped
    }
}

impl Drop for RunningParticipant {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for RunningParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningParticipant").finish_non_exhaustive()
    }
}

struct Service<S: Inbox> {
    participant: Participant<S::Connection>,
    store: S,
    transport: Arc<dyn DynTransport>,
    outlet: Outlet,
    commands: Topic,
    events: Topic,
    /// The size of the events topic, once it is known.
    event_partitions: Option<u32>,
    owned: BTreeSet<u32>,
    next_sweep: Instant,
    stop: CancellationToken,
}

/// A command and the input partition that it came in.
struct Incoming {
    envelope: Envelope,
    lane: u32,
}

/// Why a group of commands was not committed.
enum Setback {
    Store(StoreError),
    Handler(Failure),
}

/// What goes into one transaction beside the effects.
#[derive(Default)]
struct Written {
    records: BTreeMap<u32, Vec<Record>>,
    dead_letters: Vec<DeadLetter>,
}

impl<S: Inbox> Service<S> {
    async fn run(mut self) -> Result<(), Error> {
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
        let may_receive = self.outlet.bytes() < OUTLET_BYTES_MAX;
        tokio::select! {
            received = subscriber.receive(BATCH_MAX), if may_receive => match received {
                Ok(Received::Deliveries(deliveries)) => {
                    let positions = self.handle(deliveries).await?;
                    subscriber.acknowledge(&positions);
                }
                Ok(Received::Assigned(partitions)) => {
                    self.owned.extend(partitions.iter().map(|it| it.number));
                    let lanes = partitions.iter().map(|it| self.lane(it.number)).collect();
                    self.recover(lanes).await?;
                }
                Ok(Received::Revoked(partitions)) => {
                    debug!(?partitions, "partitions handed over");
                    self.owned.retain(|number| partitions.iter().all(|it| it.number != *number));
                }
                Err(error @ TransportError::OffsetOutOfRange { .. }) => {
                    error!(%error, "this partition stands still until a person decides where it goes on");
                }
                Err(error) => Outage::new(stop).outlast(error).await?,
            },
            () = self.outlet.progress() => {}
            () = tokio::time::sleep(TIDY_AFTER), if self.outlet.has_acknowledged() => self.tidy().await,
            () = tokio::time::sleep_until(self.next_sweep) => self.sweep().await,
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    fn lane(&self, number: u32) -> Lane {
        Lane::new(self.participant.name.clone(), number)
    }

    /// Publishes what an earlier owner of these lanes committed and may not have published.
    async fn recover(&mut self, lanes: Vec<Lane>) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        loop {
            match self.store.unsent(&lanes, ROWS_MAX).await {
                Ok(rows) => {
                    self.outlet.republish(rows);
                    return Ok(());
                }
                Err(error) => outage.outlast(error).await?,
            }
        }
    }

    /// Publishes rows of our partitions that an earlier owner committed after we had looked.
    async fn sweep(&mut self) {
        self.next_sweep = Instant::now() + SWEEP_EVERY;
        let lanes: Vec<_> = self.owned.iter().map(|&number| self.lane(number)).collect();
        match self.store.unsent(&lanes, ROWS_MAX).await {
            Ok(mut rows) => {
                let now = SystemClock::new().now();
                rows.retain(|row| row.is_forgotten(now));
                self.outlet.republish(rows);
            }
            Err(error) => warn!(%error, "the outbox cannot be read; trying again"),
        }
    }

    /// Deletes what was sent, for a batch to come may be far.
    async fn tidy(&mut self) {
        let sent = self.outlet.take_acknowledged();
        let result = self.store.sent(&sent).await;
        self.outlet.deleted(sent, result);
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
                Err((reason, detail)) => broken.set_aside(delivery, reason, &detail),
            }
        }
        if !broken.dead_letters.is_empty() {
            self.write(&[], broken).await?;
        }
        let (external, transactional): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|it| self.is_external(&it.envelope));
        self.handle_externals(external).await?;
        self.handle_transactionals(transactional).await?;
        Ok(positions)
    }

    fn is_external(&self, command: &Envelope) -> bool {
        matches!(self.participant.routes.get(&command.message_type), Some(Route::External(_)))
    }

    /// Carries out commands in one transaction, or in smaller ones if one of them fails.
    async fn handle_transactionals(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let mut groups = vec![commands];
        let mut outage = Outage::new(&self.stop);
        let (mut quick_tries, mut conflicts) = (0, 0);
        while let Some(mut group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let failure = match self.transact(&group).await {
                Ok(()) => {
                    outage = Outage::new(&self.stop);
                    (quick_tries, conflicts) = (0, 0);
                    continue;
                }
                // What somebody else recorded meanwhile is found next time.
                Err(Setback::Store(StoreError::Conflict)) if conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    groups.push(group);
                    continue;
                }
                Err(Setback::Store(StoreError::Conflict)) => {
                    let message = "it conflicts with itself or with what is on record".to_owned();
                    Failure { message, is_terminal: false }
                }
                Err(Setback::Store(error)) if error.is_transient() => {
                    outage.outlast(error).await?;
                    // What seemed to fail may have been written: its messages go before any later ones.
                    self.recover(self.lanes_of(&group)).await?;
                    groups.push(group);
                    continue;
                }
                Err(Setback::Store(StoreError::Refused { source, .. })) => {
                    Failure { message: source.to_string(), is_terminal: true }
                }
                Err(Setback::Store(error)) => return Err(error.into()),
                Err(Setback::Handler(failure)) => failure,
            };
            if group.len() > 1 {
                // The first half comes off the stack first, so order is kept.
                groups.push(group.split_off(group.len() / 2));
                groups.push(group);
                continue;
            }
            quick_tries += 1;
            // Others that wait must not wait for this one; its saga's policy decides then.
            let is_alone = groups.is_empty();
            if !failure.is_terminal && is_alone && quick_tries < QUICK_TRIES {
                tokio::time::sleep(QUICK_BACKOFF.delay(quick_tries, 0)).await;
                groups.push(group);
                continue;
            }
            quick_tries = 0;
            self.answer_failure(&group[0], failure).await?;
        }
        Ok(())
    }

    /// Carries out commands and makes everything durable in one transaction.
    async fn transact(&mut self, group: &[Incoming]) -> Result<(), Setback> {
        let commands: Vec<_> = group.iter().map(|it| &it.envelope).collect();
        let mut transaction = self.store.begin().await?;
        let recorded = self.store.recorded(&mut transaction, &ids(&commands)).await?;
        let mut barrier = Barrier::new(recorded).map_err(corrupt)?;
        let mut written = Written::default();
        let calls_out = self.participant.calls_out();
        for round in rounds(&commands) {
            let mut to_do = Vec::new();
            for index in round {
                match barrier.rule(commands[index], calls_out) {
                    Ruling::Answer(answer) => self.reply(&mut written, &group[index], &answer),
                    Ruling::CarryOut => to_do.push(index),
                }
            }
            let envelopes: Vec<_> = to_do.iter().map(|&index| commands[index]).collect();
            let connection = S::connection(&mut transaction);
            let (answers, facts) = self
                .participant
                .carry_out(&envelopes, connection)
                .await
                .map_err(Setback::Handler)?;
            for (&index, answer) in to_do.iter().zip(answers) {
                let recorded = barrier.record(commands[index].id, answer);
                self.reply(&mut written, &group[index], &recorded);
            }
            if let Some(&first) = to_do.first() {
                written.records.entry(group[first].lane).or_default().extend(facts);
            }
        }
        let (rows, outgoing) = self.rows(&written);
        let sent = self.outlet.take_acknowledged();
        let handled = Handled {
            records: barrier.into_records(),
            outbox: rows,
            sent: sent.clone(),
            dead_letters: Vec::new(),
        };
        if let Err(error) = self.store.record(transaction, handled).await {
            self.outlet.put_back_acknowledged(sent);
            return Err(error.into());
        }
        outgoing.into_iter().for_each(|(id, records)| self.outlet.push(id, records));
        Ok(())
    }

    /// Calls other systems, each saga's commands one after the other, those of different sagas at once.
    async fn handle_externals(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let envelopes: Vec<_> = commands.iter().map(|it| &it.envelope).collect();
        for round in rounds(&envelopes) {
            let round: Vec<_> = round.into_iter().map(|index| &commands[index]).collect();
            self.external_round(&round).await?;
        }
        Ok(())
    }

    async fn external_round(&mut self, round: &[&Incoming]) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        loop {
            let looked_up = self.look_up(round).await;
            let (mut barrier, rulings) = match looked_up {
                Ok(known) => known,
                Err(error) => {
                    outage.outlast(error).await?;
                    continue;
                }
            };
            let participant = &self.participant;
            let calls = round.iter().zip(rulings).map(|(incoming, ruling)| async move {
                match ruling {
                    Ruling::Answer(recorded) => Ok(recorded),
                    Ruling::CarryOut => Err(call(participant, &incoming.envelope).await),
                }
            });
            let answers = futures_util::future::join_all(calls).await;
            let mut written = Written::default();
            for (incoming, answer) in round.iter().zip(answers) {
                let recorded =
                    answer.unwrap_or_else(|new| barrier.record(incoming.envelope.id, new));
                self.reply(&mut written, incoming, &recorded);
            }
            match self.write(&barrier.into_records(), written).await {
                // Somebody else made the same call meanwhile; what was recorded first stands.
                Err(Error::Store(StoreError::Conflict)) => {}
                result => return result,
            }
        }
    }

    async fn look_up(&self, round: &[&Incoming]) -> Result<(Barrier, Vec<Ruling>), StoreError> {
        let envelopes: Vec<_> = round.iter().map(|it| &it.envelope).collect();
        let mut transaction = self.store.begin().await?;
        let recorded = self.store.recorded(&mut transaction, &ids(&envelopes)).await?;
        let mut barrier = Barrier::new(recorded).map_err(|error| StoreError::Refused {
            operation: "reading the inbox",
            source: error.into(),
        })?;
        let rulings = envelopes.iter().map(|it| barrier.rule(it, true)).collect();
        Ok((barrier, rulings))
    }

    /// Tells the saga that its command failed; nothing is recorded, so it may be carried out later.
    async fn answer_failure(&mut self, incoming: &Incoming, failure: Failure) -> Result<(), Error> {
        let command = headers(&incoming.envelope);
        warn!(saga = %command.saga, step = %command.step, attempt = command.attempt, error = %failure.message, "command failed");
        let outcome = failure.into_outcome();
        let recorded = Recorded { reply: MessageId::now(), answer: Answer::failed(outcome) };
        let mut written = Written::default();
        self.reply(&mut written, incoming, &recorded);
        self.write(&[], written).await
    }

    /// Writes records, replies and dead letters that no handler's effect goes with.
    async fn write(
        &mut self,
        records: &[super::InboxRecord],
        mut written: Written,
    ) -> Result<(), Error> {
        let dead_letters = std::mem::take(&mut written.dead_letters);
        let mut outage = Outage::new(&self.stop);
        loop {
            // Rows of their own for each try: an earlier one may have been written, and a record
            // that is sent twice does no harm.
            let (outbox, outgoing) = self.rows(&written);
            let sent = self.outlet.take_acknowledged();
            let handled = Handled {
                records: records.to_vec(),
                outbox,
                sent: sent.clone(),
                dead_letters: dead_letters.clone(),
            };
            let result = async {
                let transaction = self.store.begin().await?;
                self.store.record(transaction, handled).await
            };
            let Err(error) = result.await else {
                outgoing.into_iter().for_each(|(id, records)| self.outlet.push(id, records));
                return Ok(());
            };
            self.outlet.put_back_acknowledged(sent);
            match error {
                StoreError::Conflict if !records.is_empty() => return Err(error.into()),
                error => outage.outlast(error).await?,
            }
        }
    }

    fn lanes_of(&self, group: &[Incoming]) -> Vec<Lane> {
        let numbers: BTreeSet<_> = group.iter().map(|incoming| incoming.lane).collect();
        numbers.into_iter().map(|number| self.lane(number)).collect()
    }

    /// Adds the reply to a command to what is written.
    fn reply(&self, written: &mut Written, incoming: &Incoming, recorded: &Recorded) {
        let command = headers(&incoming.envelope);
        let envelope = Envelope {
            id: recorded.reply,
            message_type: recorded.answer.message_type.clone(),
            source: self.participant.name.clone(),
            correlation: incoming.envelope.correlation.clone(),
            causation: Some(incoming.envelope.id),
            traceparent: incoming.envelope.traceparent.clone(),
            timestamp: SystemClock::new().now(),
            kind: Kind::Reply(ReplyHeaders {
                saga: command.saga,
                step: command.step.clone(),
                attempt: command.attempt,
                outcome: recorded.answer.outcome.clone(),
            }),
            payload: recorded.answer.payload.clone(),
        };
        // A partition from a message is only believed if the topic has it.
        let partition = command
            .reply_partition
            .filter(|&number| self.event_partitions.is_some_and(|size| number < size));
        written.records.entry(incoming.lane).or_default().push(Record {
            topic: self.events.clone(),
            partition,
            key: command.saga.to_string().into(),
            value: envelope.encode(),
            headers: Vec::new(),
        });
    }

    /// Makes one outbox row per lane of what is to be published.
    fn rows(&self, written: &Written) -> (Vec<OutboxRow>, Vec<(OutboxId, Vec<Record>)>) {
        let lanes = written.records.iter().filter(|(_, records)| !records.is_empty());
        let rows = lanes.map(|(&lane, records)| {
            let row = OutboxRow::new(self.lane(lane), records);
            let id = row.id;
            (row, (id, records.clone()))
        });
        rows.unzip()
    }
}

impl Written {
    fn set_aside(&mut self, delivery: Delivery, reason: &str, detail: &str) {
        warn!(topic = %delivery.position.topic, partition = delivery.position.partition, offset = delivery.position.offset, reason, detail, "message set aside");
        let lane = delivery.position.partition;
        let letter = DeadLetter::new(delivery, reason, detail);
        self.records.entry(lane).or_default().push(dead_letter::record(&letter));
        self.dead_letters.push(letter);
    }
}

/// Waits until a shutdown has waited long enough for the batch in hand.
async fn grace_is_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Calls another system, a few times at once if it fails.
async fn call<Conn>(participant: &Participant<Conn>, command: &Envelope) -> Answer {
    let Some(Route::External(handler)) = participant.routes.get(&command.message_type) else {
        return Answer::no_handler(&command.message_type);
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let called = tokio::time::timeout(CALL_MAX, handler.call(command)).await;
        let called = called.unwrap_or_else(|_| {
            Err(Failure { message: "no answer within 30 s".to_owned(), is_terminal: false })
        });
        match called {
            Ok(answer) => return answer,
            Err(failure) if failure.is_terminal || tries >= QUICK_TRIES => {
                return Answer::failed(failure.into_outcome());
            }
            Err(_) => tokio::time::sleep(QUICK_BACKOFF.delay(tries, 0)).await,
        }
    }
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

fn corrupt(error: crate::CodecError) -> Setback {
    Setback::Store(StoreError::Refused { operation: "reading the inbox", source: error.into() })
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
