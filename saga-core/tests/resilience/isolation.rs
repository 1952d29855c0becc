//! One bad element stops or delays only itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use saga_core::message::Kind;
use saga_core::transport::{
    Delivery, MemoryPublisher, MemorySubscriber, Position, Receipt, Received, Record, Subscription,
};
use saga_core::{
    Cause, Compensate, Context, CorrelationId, Engine, Envelope, Handle, HandlerError,
    HandlerResult, MemoryStore, MemoryTransport, MessageId, MessageType, Participant, Payload,
    Publisher, Reply, Saga, Status, Step, StepName, Subscriber, Timestamp, Topic, Transport,
    TransportError,
};
use tokio::time::Instant;

use crate::strict::Strict;
use crate::support::{
    Authorize, Conn, Done, Order, OrderPlaced, Reserve, ReserveStock, SHOP, STOCK, Shop, Void,
    bank, engine, key, order, participants, place, stock,
};
use crate::{database, one_step, reserve, send, tell, until, until_done};

/// A broker that takes no record of more than a million bytes.
#[derive(Clone)]
struct Limited<T>(T);

impl Transport for Limited<MemoryTransport> {
    type Publisher = Limited<MemoryPublisher>;
    type Subscriber = MemorySubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.0.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<Limited<MemoryPublisher>, TransportError> {
        self.0.publisher().await.map(Limited)
    }

    async fn subscriber(&self, it: Subscription) -> Result<MemorySubscriber, TransportError> {
        self.0.subscriber(it).await
    }
}

impl Publisher for Limited<MemoryPublisher> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.0.partitions(topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        match records.iter().find(|record| record.value.len() > 1_000_000) {
            Some(Record { topic, .. }) => Receipt::settled(Err(TransportError::Refused {
                topic: topic.clone(),
                source: "too large".into(),
            })),
            None => self.0.publish(records),
        }
    }
}

/// A broker that has one more fact of somebody else's at once, as long as it counts down.
#[derive(Clone)]
struct Endless<T>(T, Arc<AtomicU32>);

impl Transport for Endless<MemoryTransport> {
    type Publisher = MemoryPublisher;
    type Subscriber = Endless<MemorySubscriber>;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.0.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<MemoryPublisher, TransportError> {
        self.0.publisher().await
    }

    async fn subscriber(&self, it: Subscription) -> Result<Self::Subscriber, TransportError> {
        let subscriber = self.0.subscriber(it).await?;
        Ok(Endless(subscriber, Arc::clone(&self.1)))
    }
}

impl Subscriber for Endless<MemorySubscriber> {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        let counted =
            self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if counted.is_err() {
            return self.0.receive(limit).await;
        }
        let position =
            Position { topic: STOCK.events(), partition: 0, offset: 0, generation: u64::MAX };
        let value = foreign_fact().encode();
        let (key, headers, timestamp) = (Bytes::new(), Vec::new(), Timestamp::default());
        Ok(Received::Deliveries(vec![Delivery { position, key, value, headers, timestamp }]))
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        self.0.acknowledge(positions);
    }

    async fn close(self) -> Result<(), TransportError> {
        self.0.close().await
    }
}

fn foreign_fact() -> Envelope {
    Envelope {
        id: MessageId::now(),
        message_type: MessageType::new("SomebodyElses"),
        source: STOCK,
        correlation: CorrelationId::from(MessageId::now()),
        causation: None,
        traceparent: None,
        timestamp: Timestamp::default(),
        kind: Kind::Fact,
        payload: Payload::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_without_end_that_mean_nothing_hold_up_no_start() {
    let left = Arc::new(AtomicU32::new(200_000));
    let transport = Endless(MemoryTransport::new(), Arc::clone(&left));
    let engine = Engine::builder(SHOP, MemoryStore::new()).saga(one_step()).transport(transport);
    let engine = engine.start().expect("the parts fit");
    for order in ["o-1", "o-2", "o-3"] {
        let started = engine.start(key(order), crate::support::order(order, ""));
        started.await.expect("accepted");
    }
    assert_ne!(left.load(Ordering::SeqCst), 0, "the starts must not wait for the last fact");
}

/// Fails with two megabytes of text, if it is to.
struct Verbose;

impl Handle<Reserve, Conn> for Verbose {
    async fn handle(&self, command: Reserve, _: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        if command.trouble == "verbose" {
            return Err(HandlerError::terminal("x".repeat(2_000_000)));
        }
        Ok(Reply::succeeded(Done {}))
    }
}

/// I12.
#[tokio::test]
async fn an_error_of_two_megabytes_reaches_its_saga_and_blocks_no_lane() {
    let transport = Limited(MemoryTransport::new());
    let stock = Participant::builder(STOCK).handle::<Reserve>(Verbose).build().expect("sound");
    let _stock = stock.start(database(), transport.clone());
    let engine = Engine::builder(SHOP, MemoryStore::new()).saga(one_step()).transport(transport);
    let engine = engine.start().expect("the parts fit");
    let ends = (place(&engine, "o-1", "verbose").await, place(&engine, "o-2", "").await);
    assert_eq!(ends, (Status::Parked, Status::Completed), "of the failed one and the next one");
}

/// I12.
#[tokio::test]
async fn a_damaged_saga_ends_no_engine() {
    let (transport, store) = (MemoryTransport::new(), Strict::new());
    let _participants = participants(&Shop::default(), &database(), &transport);
    let first = engine(store.clone(), &transport);
    let parked = first.start(key("bad"), order("bad", "ship:terminal")).await.expect("accepted");
    assert_eq!(parked.outcome().await.expect("an end"), Status::Parked);
    first.shutdown().await.expect("an orderly end");
    *store.damaged.lock().expect("no test panics here") = Some(parked.saga());
    let second = engine(store, &transport);
    second.cancel(parked.saga()).await.expect_err("it cannot be read");
    assert_eq!(place(&second, "o-1", "").await, Status::Completed, "a sound saga beside it");
}

/// F43, I12.
#[tokio::test]
async fn a_local_command_that_the_store_refuses_parks_its_own_saga_and_no_other() {
    let store = Strict::new();
    let engine = Engine::builder(SHOP, store.clone()).saga(one_step());
    let engine = engine.local(stock(&Shop::default())).start().expect("the parts fit");
    let (refused, sound) = (place(&engine, "forbidden", ""), place(&engine, "o-1", ""));
    let ends = tokio::join!(refused, sound);
    assert_eq!(ends, (Status::Parked, Status::Completed), "of the refused and the sound one");
    assert_eq!(store.db.read(Clone::clone), ["reserve o-1"], "what was refused left an effect");
}

/// I12.
///
/// On time that moves only when nothing else does: what is measured is the pauses between tries.
#[tokio::test(start_paused = true)]
async fn failing_commands_do_not_delay_a_sound_one() {
    let (transport, db) = (MemoryTransport::new(), database());
    let failing = (0..400).map(|_| reserve("bad", "reserve:fail"));
    send(&transport, failing.chain([reserve("good", "")]).collect()).await;
    let started = Instant::now();
    let _stock = stock(&Shop::default()).start(db.clone(), transport);
    until_done(&db, "reserve good").await;
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(1), "a sound command waited {waited:?} for failing ones");
}

/// F05, I11, I12.
#[tokio::test]
async fn a_panic_over_a_fact_sets_the_fact_aside_and_ends_no_engine() {
    let (transport, sagas) = (MemoryTransport::new(), MemoryStore::new());
    let _participants = participants(&Shop::default(), &database(), &transport);
    let engine = Engine::builder(SHOP, sagas.clone())
        .saga(crate::support::saga())
        .transport(transport.clone())
        .start_on::<OrderPlaced, Order>(|fact| {
            assert_ne!(fact.trouble, "boom", "a bug in the application");
            Some((key(&fact.order), order(&fact.order, &fact.trouble)))
        })
        .start()
        .expect("the parts fit");
    tell(&transport, "o-1", "boom").await;
    until("the fact is set aside", || sagas.dead_letters().len() == 1).await;
    assert_eq!(place(&engine, "o-2", "").await, Status::Completed, "the engine goes on");
}

/// I11.
#[tokio::test]
async fn a_fact_whose_saga_cannot_start_is_set_aside() {
    let (transport, sagas) = (MemoryTransport::new(), MemoryStore::new());
    let _engine = Engine::builder(SHOP, sagas.clone())
        .saga(one_step())
        .transport(transport.clone())
        .start_on::<OrderPlaced, Order>(|fact| {
            Some((key(&fact.order), order(&fact.order, &fact.trouble)))
        })
        .start()
        .expect("the parts fit");
    tell(&transport, "o-1", "no-command").await;
    until("the fact is set aside", || sagas.dead_letters().len() == 1).await;
    let reason = sagas.dead_letters().remove(0).reason;
    assert_eq!(reason, "unstartable", "why it was set aside");
}

/// Can be authorized; to make what undoes it is a bug in the definition.
struct NeverVoided;

impl Step<Order> for NeverVoided {
    const NAME: StepName = StepName::new("authorize");
    type Command = Authorize;

    fn command(&self, order: &Order) -> Authorize {
        order.into()
    }
}

impl Compensate<Order> for NeverVoided {
    type Compensation = Void;

    fn compensation(&self, _: &Order, _: &Cause) -> Void {
        panic!("a bug in the definition")
    }
}

/// F62, I12.
#[tokio::test]
async fn a_local_saga_that_cannot_turn_back_parks_and_holds_up_no_other() {
    let saga = Saga::<Order>::builder()
        .parallel(|both| both.step(ReserveStock).step(NeverVoided))
        .build()
        .expect("a sound saga");
    let shop = Shop::default();
    let builder = Engine::builder(SHOP, database()).saga(saga);
    let engine = builder.local(stock(&shop)).local(bank(&shop)).start().expect("the parts fit");
    // Both are in every tick together.
    let ends = tokio::join!(place(&engine, "o-1", "reserve:reject"), place(&engine, "o-2", ""));
    assert_eq!(ends, (Status::Parked, Status::Completed), "of the broken one and the other one");
}

/// Notes which orders it is asked about, and is always busy for one of them.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<Vec<String>>>);

impl Busy {
    fn asked_about(&self, is_it: impl Fn(&str) -> bool) -> usize {
        self.0.lock().expect("nobody panics").iter().filter(|order| is_it(order)).count()
    }
}

impl Handle<Reserve, Conn> for Busy {
    async fn handle(&self, command: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        self.0.lock().expect("nobody panics").push(command.order.clone());
        if command.order == "poison" {
            return Err("busy".into());
        }
        cx.connection().push(command.order);
        Ok(Reply::succeeded(Done {}))
    }
}

/// I12: what is tried again stands apart from what comes with it.
#[tokio::test]
async fn what_fails_again_takes_back_nothing_of_others() {
    const OTHERS: usize = 100;
    let (transport, db, busy) = (MemoryTransport::new(), database(), Busy::default());
    let mut commands: Vec<_> =
        (0..OTHERS).map(|number| reserve(&format!("o-{number}"), "")).collect();
    let mut poison = reserve("poison", "");
    let mut envelope = Envelope::decode(poison.value).expect("it was encoded");
    if let Kind::Command(headers) = &mut envelope.kind {
        headers.attempt = 2;
    }
    poison.value = envelope.encode();
    commands.insert(OTHERS / 2, poison);
    send(&transport, commands).await;
    let stock = Participant::builder(STOCK).handle::<Reserve>(busy.clone()).build();
    let stock = stock.expect("sound").start(db.clone(), transport);
    until("the others are served", || db.read(Vec::len) == OTHERS).await;
    until("it was tried", || busy.asked_about(|order| order == "poison") > 0).await;
    stock.shutdown().await.expect("an orderly end");
    assert_eq!(busy.asked_about(|order| order != "poison"), OTHERS, "each is asked about once");
}
