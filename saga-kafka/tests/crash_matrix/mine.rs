//! A store and a transport in which one call goes wrong.

use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use saga_core::message::{Envelope, Kind as EnvelopeKind, Outcome};
use saga_core::participant::{Handled, Inbox, Remembered};
use saga_core::store::{
    DeadLetter, DueSagas, HeldKey, HistoryRecord, Lane, OutboxRow, Redrive, SagaStore, Snapshot,
    Tick, Transactional,
};
use saga_core::transport::{Delivery, Position, Receipt, Received, Record, Subscription};
use saga_core::{
    HandlerError, IdempotencyKey, MessageId, Outbox, OutboxId, ParticipantName, Publisher, SagaId,
    SagaName, StoreError, Subscriber, Topic, Transport, TransportError,
};

use super::points::{Call, Case, Fault, Kind, Moment, Point, Service, Since};
use super::shop::UNDONE;

/// What a process writes when its call goes wrong.
pub(crate) const WENT_WRONG: &str = "the call went wrong";

/// What is to go wrong in this process.
#[derive(Debug, Clone)]
pub(crate) struct Mine {
    case: Option<Arc<Case>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: AtomicBool,
    passed: AtomicU32,
    went_off: AtomicBool,
    /// It dies in a second.
    is_dying: AtomicBool,
    /// The process recovers from a death at the same point.
    is_second: bool,
}

impl Mine {
    /// Lays a mine in the process that lives this life, from 0.
    pub(crate) fn new(case: &Case, life: u32) -> Self {
        let is_laid = life == 0 || (life == 1 && case.fault == Fault::KillTwice);
        let state = State { is_second: life > 0, ..State::default() };
        let mine = Self { case: is_laid.then(|| Arc::new(case.clone())), state: Arc::new(state) };
        mine.since(Since::Begin);
        mine
    }

    /// Returns true if nothing more is to go wrong.
    pub(crate) fn is_over(&self) -> bool {
        let went_off = self.state.went_off.load(Ordering::SeqCst);
        let is_over = self.case.is_none() || self.state.is_second || went_off;
        is_over && !self.state.is_dying.load(Ordering::SeqCst)
    }

    /// Notes what happened, since when calls may count.
    pub(crate) fn since(&self, what: Since) {
        if self.case.as_ref().is_some_and(|case| case.point.since == what) {
            self.state.counts.store(true, Ordering::SeqCst);
        }
    }

    fn received(&self, service: Service, deliveries: &[Delivery]) {
        let is_ours = self.case.as_ref().is_some_and(|case| case.point.service == service);
        for kind in deliveries.iter().filter_map(kind).filter(|_| is_ours) {
            self.since(Since::Received(kind));
        }
    }

    /// Returns what goes wrong in a call, once.
    fn strikes(&self, service: Service, call: Call) -> Option<(Fault, Moment)> {
        let case = self.case.as_ref()?;
        let point = &case.point;
        let counts = self.state.counts.load(Ordering::SeqCst) && point.service == service;
        let next = self.state.is_second && Self::is_next(point, call, counts);
        if !next && (!counts || point.call != call) {
            return None;
        }
        if self.state.passed.fetch_add(1, Ordering::SeqCst) < point.pass && !next {
            return None;
        }
        let is_first = !self.state.went_off.swap(true, Ordering::SeqCst);
        is_first.then_some((case.fault, point.moment))
    }

    /// Returns true for where a process dies that recovers from a death, if the point does not come again.
    const fn is_next(point: &Point, call: Call, counts: bool) -> bool {
        let settles = matches!(call, Call::Acknowledge | Call::Settled | Call::Sent);
        match (point.moment, point.call) {
            // Nothing comes again; but it looks for what is due.
            (Moment::Later, _) => matches!(call, Call::Due),
            (_, Call::Settled | Call::Sent) => settles,
            _ => settles && counts,
        }
    }

    /// Makes a call, in which something may go wrong.
    async fn around<T, E: Unavailable>(
        &self,
        service: Service,
        call: Call,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let Some((fault, moment)) = self.strikes(service, call) else { return work.await };
        match fault {
            Fault::Error => {
                say_so();
                Err(E::unavailable())
            }
            Fault::ReportedAsFailed => {
                work.await?;
                say_so();
                Err(E::unavailable())
            }
            Fault::Kill | Fault::KillTwice => match moment {
                Moment::Before => die(),
                Moment::During(time) => {
                    // At least once it is polled, so that it is on its way.
                    let _ = tokio::time::timeout(time, work).await;
                    die()
                }
                Moment::After => {
                    let _ = work.await;
                    die()
                }
                Moment::Later => {
                    let result = work.await;
                    self.die_later();
                    result
                }
            },
        }
    }

    /// A call of the application, or one that cannot fail.
    pub(crate) fn at(&self, service: Service, call: Call, at: Moment) {
        let Some(case) = self.case.as_ref() else { return };
        if case.point.call == call && case.point.moment != at && case.point.moment != Moment::Later
        {
            return;
        }
        match self.strikes(service, call) {
            Some((_, Moment::Later)) => self.die_later(),
            Some(_) => die(),
            None => {}
        }
    }

    fn die_later(&self) {
        say_so();
        self.state.is_dying.store(true, Ordering::SeqCst);
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            std::process::abort()
        });
    }

    /// A handler's part before or after its effect.
    pub(crate) async fn in_handler(&self, call: Call) -> Result<(), HandlerError> {
        self.around(Service::Participant, call, async { Ok(()) }).await
    }
}

fn say_so() {
    // Not through the test's capture, which a dying process does not write.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{WENT_WRONG}");
    let _ = out.flush();
}

fn die() -> ! {
    say_so();
    std::process::abort()
}

/// An error that says that nobody was reached.
pub(crate) trait Unavailable {
    fn unavailable() -> Self;
}

impl Unavailable for StoreError {
    fn unavailable() -> Self {
        Self::Unavailable { operation: "mined", source: "it goes wrong here".into() }
    }
}

impl Unavailable for TransportError {
    fn unavailable() -> Self {
        Self::Unavailable { operation: "mined", source: "it goes wrong here".into() }
    }
}

impl Unavailable for HandlerError {
    fn unavailable() -> Self {
        "it goes wrong here".into()
    }
}

/// Reads what a delivery is about.
fn kind(delivery: &Delivery) -> Option<Kind> {
    let envelope = Envelope::decode(delivery.value.clone()).ok()?;
    Some(match envelope.kind {
        EnvelopeKind::Fact => Kind::Fact,
        EnvelopeKind::Command(command) if command.compensates.is_some() => Kind::Compensation,
        EnvelopeKind::Command(_) => Kind::Command,
        EnvelopeKind::Reply(reply) => match reply.outcome {
            Outcome::Succeeded if envelope.message_type == UNDONE => Kind::Compensated,
            Outcome::Succeeded => Kind::Success,
            Outcome::Rejected(_) => Kind::Refusal,
            _ => Kind::Failure,
        },
    })
}

/// A store or a transport of one service.
#[derive(Debug, Clone)]
pub(crate) struct Mined<T> {
    inner: T,
    service: Service,
    mine: Mine,
}

impl<T> Mined<T> {
    pub(crate) fn new(inner: T, service: Service, mine: &Mine) -> Self {
        Self { inner, service, mine: mine.clone() }
    }

    async fn around<V, E: Unavailable>(
        &self,
        call: Call,
        work: impl Future<Output = Result<V, E>> + Send,
    ) -> Result<V, E>
    where
        T: Sync,
    {
        self.mine.around(self.service, call, work).await
    }
}

impl<S: Transactional> Transactional for Mined<S> {
    type Connection = S::Connection;
    type Transaction = S::Transaction;

    async fn begin(&self) -> Result<S::Transaction, StoreError> {
        self.around(Call::Begin, self.inner.begin()).await
    }

    fn connection(transaction: &mut S::Transaction) -> &mut S::Connection {
        S::connection(transaction)
    }
}

impl<S: Outbox> Outbox for Mined<S> {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = self.inner.unsent(lanes, bytes).await?;
        // Only what finds something is of interest.
        if rows.is_empty() {
            return Ok(rows);
        }
        self.around(Call::Unsent, async { Ok(rows) }).await
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        self.around(Call::Sent, self.inner.sent(rows)).await
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        time: Duration,
    ) -> Result<bool, StoreError> {
        self.inner.lease(lane, holder, time).await
    }
}

impl<S: Redrive> Redrive for Mined<S> {
    async fn redriven(
        &self,
        consumer: &ParticipantName,
        partitions: &[u32],
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let letters = self.inner.redriven(consumer, partitions, lease, limit).await?;
        if letters.is_empty() {
            return Ok(letters);
        }
        self.mine.since(Since::Redriven);
        self.around(Call::Redriven, async { Ok(letters) }).await
    }

    async fn settled(&self, letters: &[MessageId]) -> Result<(), StoreError> {
        self.around(Call::Settled, self.inner.settled(letters)).await
    }

    async fn held(&self, consumer: &ParticipantName) -> Result<Vec<HeldKey>, StoreError> {
        self.inner.held(consumer).await
    }
}

impl<S: SagaStore> SagaStore for Mined<S> {
    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Snapshot>, StoreError> {
        self.inner.load(sagas).await
    }

    async fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Result<Vec<(SagaName, IdempotencyKey, SagaId)>, StoreError> {
        self.inner.find(keys).await
    }

    async fn commit(&self, tick: Tick) -> Result<(), StoreError> {
        // One that only deletes what was sent decides nothing.
        if tick.commits.is_empty() {
            return self.inner.commit(tick).await;
        }
        self.around(Call::Commit, self.inner.commit(tick)).await
    }

    async fn commit_with(&self, transaction: S::Transaction, tick: Tick) -> Result<(), StoreError> {
        self.inner.commit_with(transaction, tick).await
    }

    async fn due(&self, horizon: Duration, limit: usize) -> Result<DueSagas, StoreError> {
        self.around(Call::Due, self.inner.due(horizon, limit)).await
    }

    async fn history(&self, saga: SagaId) -> Result<Vec<HistoryRecord>, StoreError> {
        self.inner.history(saga).await
    }
}

impl<S: Inbox> Inbox for Mined<S> {
    async fn recorded(
        &self,
        transaction: &mut S::Transaction,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        self.around(Call::Recorded, self.inner.recorded(transaction, commands)).await
    }

    async fn record(
        &self,
        transaction: S::Transaction,
        handled: Handled,
    ) -> Result<(), StoreError> {
        self.around(Call::Commit, self.inner.record(transaction, handled)).await
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        self.inner.begin_attempts(commands).await
    }

    async fn unfinished(&self, ids: &[MessageId]) -> Result<Vec<(MessageId, u32)>, StoreError> {
        self.inner.unfinished(ids).await
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        self.inner.end_attempts(commands).await
    }
}

impl<T: Transport> Transport for Mined<T> {
    type Publisher = MinedPublisher<T::Publisher>;
    type Subscriber = Mined<T::Subscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.inner.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<Self::Publisher, TransportError> {
        let inner = Mined::new(self.inner.publisher().await?, self.service, &self.mine);
        Ok(MinedPublisher { inner, has_failed: AtomicBool::new(false) })
    }

    async fn subscriber(&self, it: Subscription) -> Result<Self::Subscriber, TransportError> {
        Ok(Mined::new(self.inner.subscriber(it).await?, self.service, &self.mine))
    }
}

pub(crate) struct MinedPublisher<P> {
    inner: Mined<P>,
    /// After one that failed no later one is appended, so that nothing overtakes it.
    has_failed: AtomicBool,
}

impl<P: Publisher> Publisher for MinedPublisher<P> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.inner.inner.partitions(topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        let Mined { inner, service, mine } = &self.inner;
        if self.has_failed.load(Ordering::SeqCst) {
            return failed();
        }
        let published = match mine.strikes(*service, Call::Publish) {
            None => inner.publish(records),
            Some((Fault::Kill | Fault::KillTwice, moment)) => {
                if moment != Moment::Before {
                    drop(inner.publish(records));
                }
                die()
            }
            Some((fault, _)) => {
                say_so();
                self.has_failed.store(true, Ordering::SeqCst);
                if fault == Fault::ReportedAsFailed {
                    drop(inner.publish(records));
                }
                return failed();
            }
        };
        let (acknowledgement, receipt) = Receipt::pending();
        let (mine, service) = (mine.clone(), *service);
        tokio::spawn(async move {
            let result = mine.around(service, Call::Receipt, published).await;
            acknowledgement.settle(result);
        });
        receipt
    }
}

fn failed() -> Receipt {
    let (operation, source) = ("publish", "it goes wrong here".into());
    Receipt::settled(Err(TransportError::PublisherFailed { operation, source }))
}

impl<S: Subscriber> Subscriber for Mined<S> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        let received = self.inner.receive(limit).await?;
        if let Received::Deliveries(deliveries) = &received {
            self.mine.received(self.service, deliveries);
            self.mine.at(self.service, Call::Receive, Moment::After);
        }
        Ok(received)
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.inner.acknowledge(positions);
        if !positions.is_empty() {
            self.mine.at(self.service, Call::Acknowledge, Moment::After);
        }
    }

    async fn close(self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}
