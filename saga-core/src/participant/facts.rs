//! Facts that a participant handles: the other way to join services, without anybody in the middle.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::{Span, info_span};

use super::handler::{HandlerError, fact_of};
use super::route::{
    Answer, Answers, DynHandle, Failure, caught, decode, inside, stay_awake, within,
};
use crate::message::{Envelope, Outcome};
use crate::transport::Record;
use crate::{CorrelationId, Fact, MessageId, MessageType, ParticipantName, Payload, Timestamp};

/// Handles facts of type `F` of another service, each exactly once (*choreography*).
///
/// A saga says who does what in which order, and undoes it; a fact only says what happened, and
/// whoever wants to know does what it likes. That suits what nobody waits for: a summary, a notification, a
/// search index. As soon as something is to be undone if a later part fails, it is a saga.
///
/// # What happens to a fact
///
/// As to a command, without an answer: one transaction of the participant's own database holds the
/// inbox record and what the handler writes; then the fact is acknowledged. A fact that is delivered
/// again, or was published twice, finds its record and changes nothing. A crash before the commit delivers
/// it again, one after it finds the record.
///
/// - Facts of one key are handled in the order that they were published in; those of several keys together, in one transaction.
/// - An error rolls back and is tried again, three times in all, and three times more some seconds later. Then the
///   fact is set aside as a [dead letter](crate::store::DeadLetter) with the reason `unhandled-fact`. Later facts of its key wait
///   from the first error on, in order; everything else goes on. [`LetterTask`](crate::LetterTask) brings it back.
/// - A database that is away is waited for, and sets nothing aside.
/// - A reply is a fact too: if the type of a reply is a [`Fact`], each command that succeeded tells it. Its key is the saga, and what
///   is [local](crate::EngineBuilder::local) is not published.
/// - Facts that no handler is for are acknowledged. A participant that is new begins with the
///   oldest fact that the topic still has; a handler that is added to one that has run begins where it stands.
/// - A fact that is older than what the inbox remembers may have been handled. It is set aside with the reason
///   `forgotten-fact`; to redrive it does not help, so look whether it was handled, and discard it. Let the inbox
///   remember for longer than the topic does, and than facts may wait ([`RetentionPolicy`](crate::RetentionPolicy)).
///
/// # Examples
///
/// ```
/// # use saga_core::*;
/// # use saga_core::store::{OutboxRow, Transactional as _};
/// # use serde::{Deserialize, Serialize};
/// # use std::collections::BTreeMap;
/// # #[derive(Serialize, Deserialize)] struct OrderConfirmed { user: String, cents: u64 }
/// # impl Message for OrderConfirmed { const TYPE: MessageType = MessageType::new("OrderConfirmed"); type Codec = Json; }
/// # impl Fact for OrderConfirmed { const SOURCE: ParticipantName = ParticipantName::new("orders"); }
/// /// What each customer has spent.
/// type Spent = BTreeMap<String, u64>;
///
/// struct Summary;
///
/// impl HandleFact<OrderConfirmed, MemoryConnection<Spent>> for Summary {
///     async fn handle_fact(
///         &self,
///         order: OrderConfirmed,
///         cx: &mut FactContext<'_, MemoryConnection<Spent>>,
///     ) -> Result<(), HandlerError> {
///         *cx.connection().entry(order.user).or_default() += order.cents;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (orders, transport) = (MemoryStore::new(), MemoryTransport::new());
/// let store = MemoryStore::with_state(Spent::new());
/// let summary = Participant::builder(ParticipantName::new("summary"))
///     .handle_fact::<OrderConfirmed>(Summary)
///     .build()?
///     .start(store.clone(), transport.clone());
///
/// # transport.ensure_topics(&[OrderConfirmed::SOURCE.events()]).await?;
/// # let relay = Relay::start(orders.clone(), transport);
/// let fact = OutboxRow::fact(&OrderConfirmed { user: "ada".into(), cents: 250 }, "o-1")?;
/// let twice = OutboxRow { id: OutboxId::now(), ..fact.clone() };
/// # let mut transaction = orders.begin().await?;
/// # for row in [fact, twice] { MemoryStore::<()>::connection(&mut transaction).enqueue(row); }
/// # transaction.commit().await?;
/// # relay.wake();
/// while store.read(|spent| spent.is_empty()) {
///     tokio::task::yield_now().await;
/// }
/// summary.shutdown().await?;
/// assert_eq!(store.read(|spent| spent["ada"]), 250);
/// # relay.shutdown().await?;
/// # Ok(()) }
/// ```
///
/// The idempotent receiver is described by Hohpe and Woolf, *Enterprise Integration Patterns* (2003);
/// choreography and orchestration are compared by Richardson, *Microservices Patterns* (2018), chapter 4.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle the fact `{F}` on a `{Conn}`",
    note = "implement `HandleFact<{F}, {Conn}>` for it; `{Conn}` is the connection of the participant's store"
)]
pub trait HandleFact<F: Fact, Conn>: Send + Sync + 'static {
    /// Does what is to be done about the fact, with the transaction in `cx`.
    ///
    /// # Errors
    ///
    /// Any error rolls back and is tried again; [`HandlerError::terminal`] and a panic set the fact aside at once.
    fn handle_fact(
        &self,
        fact: F,
        cx: &mut FactContext<'_, Conn>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Handles many facts of one type at once, with one statement instead of one each.
///
/// Facts that arrive together are handed over together; there is never more than one of a key among them, and those
/// without a key come together. What [`HandleFact`] says of a fact holds for each of them.
///
/// What the handler [publishes](FactContext::publish) follows from the first of them: it carries the correlation, the
/// cause and the trace of that one. Where these matter, as where what is published starts sagas, handle facts one by one.
///
/// # Examples
///
/// Where several processes handle facts, let the statement lock its rows in one order, or they deadlock:
///
/// ```
/// # use saga_core::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct OrderConfirmed { user: String, cents: u64 }
/// # impl Message for OrderConfirmed { const TYPE: MessageType = MessageType::new("OrderConfirmed"); type Codec = Json; }
/// # impl Fact for OrderConfirmed { const SOURCE: ParticipantName = ParticipantName::new("orders"); }
/// # struct Database;
/// # impl Database {
/// #     async fn add(&mut self, _: &str, _: &[String], _: &[u64]) -> Result<(), std::fmt::Error> { Ok(()) }
/// # }
/// struct Summary;
///
/// impl HandleAllFacts<OrderConfirmed, Database> for Summary {
///     async fn handle_all_facts(
///         &self,
///         orders: Vec<OrderConfirmed>,
///         cx: &mut FactContext<'_, Database>,
///     ) -> Result<(), HandlerError> {
///         let (users, cents): (Vec<_>, Vec<_>) = orders.into_iter().map(|it| (it.user, it.cents)).unzip();
///         let add = "insert into summary (customer, cents)
///             select customer, sum(cents) from unnest($1::text[], $2::bigint[]) as it (customer, cents)
///             group by customer order by customer
///             on conflict (customer) do update set cents = summary.cents + excluded.cents";
///         cx.connection().add(add, &users, &cents).await?;
///         Ok(())
///     }
/// }
///
/// let summary = Participant::builder(ParticipantName::new("summary"));
/// let summary = summary.handle_all_facts::<OrderConfirmed>(Summary).build()?;
/// # Ok::<(), DefinitionError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle facts `{F}` on a `{Conn}`",
    note = "implement `HandleAllFacts<{F}, {Conn}>` for it; `{Conn}` is the connection of the participant's store"
)]
pub trait HandleAllFacts<F: Fact, Conn>: Send + Sync + 'static {
    /// Does what is to be done about the facts, with the transaction in `cx`.
    ///
    /// # Errors
    ///
    /// Any error rolls back all of them; they are then tried in smaller groups, down to single ones.
    fn handle_all_facts(
        &self,
        facts: Vec<F>,
        cx: &mut FactContext<'_, Conn>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// What a handler is given beside the fact. If there are many, what it says of one holds for the first.
pub struct FactContext<'a, Conn> {
    connection: &'a mut Conn,
    fact: &'a Envelope,
    participant: &'a ParticipantName,
    facts: &'a mut Vec<Record>,
}

impl<Conn> FactContext<'_, Conn> {
    /// Returns the connection, inside the open transaction.
    pub const fn connection(&mut self) -> &mut Conn {
        self.connection
    }

    /// Returns the id of the fact, the same however often it is delivered.
    #[must_use]
    pub const fn fact_id(&self) -> MessageId {
        self.fact.id
    }

    /// Returns when the fact was told, by the clock of its source.
    #[must_use]
    pub const fn told_at(&self) -> Timestamp {
        self.fact.timestamp
    }

    /// Returns the business operation that the fact belongs to.
    #[must_use]
    pub const fn correlation(&self) -> &CorrelationId {
        &self.fact.correlation
    }

    /// Tells a fact that follows from this one (of many, from the first), published under `key` if and only if the
    /// transaction commits.
    ///
    /// # Errors
    ///
    /// [`HandlerError`] if the fact cannot be encoded, is too large, or is another service's to tell.
    pub fn publish<F: Fact>(&mut self, fact: &F, key: &str) -> Result<(), HandlerError> {
        self.facts.push(fact_of(self.participant, fact, key, self.fact)?);
        Ok(())
    }
}

impl<Conn> fmt::Debug for FactContext<'_, Conn> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FactContext")
            .field("fact", &self.fact.id)
            .field("type", &self.fact.message_type)
            .finish_non_exhaustive()
    }
}

/// Handles facts one by one, on behalf of a participant.
pub(super) struct EachFact<F, H>(
    pub(super) ParticipantName,
    pub(super) H,
    pub(super) PhantomData<fn(F)>,
);

/// Handles facts all at once, on behalf of a participant.
pub(super) struct AllFacts<F, H>(
    pub(super) ParticipantName,
    pub(super) H,
    pub(super) PhantomData<fn(F)>,
);

impl<F: Fact, Conn: Send, H: HandleFact<F, Conn>> DynHandle<Conn> for EachFact<F, H> {
    fn handle<'a>(
        &'a self,
        envelopes: &'a [&'a Envelope],
        connection: &'a mut Conn,
        limit: Duration,
    ) -> BoxFuture<'a, Answers> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(envelopes.len());
            let mut facts = Vec::new();
            let work = caught(async {
                for envelope in envelopes {
                    let fact = decode::<F>(envelope)?;
                    let mut cx = FactContext {
                        connection: &mut *connection,
                        fact: envelope,
                        participant: &self.0,
                        facts: &mut facts,
                    };
                    let work = self.1.handle_fact(fact, &mut cx);
                    stay_awake(inside(span(envelope), envelope, work), limit).await??;
                    answers.push(Answer::handled());
                }
                Ok(())
            });
            match work.await {
                Ok(()) => Ok((answers, facts)),
                Err(failure) => Err(Failure { culprit: Some(answers.len()), ..failure }),
            }
        })
    }
}

impl<F: Fact, Conn: Send, H: HandleAllFacts<F, Conn>> DynHandle<Conn> for AllFacts<F, H> {
    fn handle<'a>(
        &'a self,
        envelopes: &'a [&'a Envelope],
        connection: &'a mut Conn,
        limit: Duration,
    ) -> BoxFuture<'a, Answers> {
        Box::pin(caught(async move {
            let decoded: Result<Vec<F>, _> = envelopes.iter().map(|it| decode::<F>(it)).collect();
            let (first, mut facts) = (envelopes[0], Vec::new());
            let mut cx =
                FactContext { connection, fact: first, participant: &self.0, facts: &mut facts };
            let work = self.1.handle_all_facts(decoded?, &mut cx);
            within(limit, inside(span(first), first, work)).await??;
            Ok((envelopes.iter().map(|_| Answer::handled()).collect(), facts))
        }))
    }
}

fn span(fact: &Envelope) -> Span {
    info_span!("fact", name = %fact.message_type, id = %fact.id)
}

impl Answer {
    /// Nobody is told; it says in the inbox that a fact was handled.
    fn handled() -> Self {
        let message_type = MessageType::new("Handled");
        Self { outcome: Outcome::Succeeded, message_type, payload: Payload::default() }
    }
}
