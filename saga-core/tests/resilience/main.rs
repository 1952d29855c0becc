//! What one bad element may not do to the others: hostile messages, broken definitions, a store that
//! refuses, a broker that takes nothing.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod dead_letters;
mod effects;
mod facts;
mod flood;
mod forged;
mod isolation;
mod killers;
mod local_steps;
mod outages;
mod redrive;
mod refused;
mod retention;
mod shutdown;
mod slow_handlers;
mod storm;
mod strict;
mod timers_and_load;

use std::time::Duration;

use bytes::Bytes;
use saga_core::message::{CommandHeaders, Envelope, Kind};
use saga_core::store::{OutboxRow, Transactional as _};
use saga_core::transport::Record;
use saga_core::{
    Clock as _, CorrelationId, Fact, MemoryStore, MemoryTransport, MessageId, MessageType, Payload,
    Publisher as _, Relay, Saga, SagaId, Step, StepName, SystemClock, Transport as _,
};

use support::{Db, Effects, Order, OrderPlaced, Reserve, SHOP, STOCK};

/// A saga of a single step, which the stock carries out.
fn one_step() -> Saga<Order> {
    Saga::<Order>::builder().then(ReserveOnly).build().expect("a sound saga")
}

struct ReserveOnly;

impl Step<Order> for ReserveOnly {
    const NAME: StepName = StepName::new("reserve");
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        assert_ne!(order.trouble, "no-command", "a bug in the definition");
        order.into()
    }
}

fn database() -> Db {
    MemoryStore::with_state(Effects::new())
}

/// Waits until `condition` holds, for a bounded time; panics with what did not happen.
async fn until(happens: &str, condition: impl Fn() -> bool + Send + Sync) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(5), polled).await.is_ok(), "never: {happens}");
}

async fn until_done(db: &Db, effect: &str) {
    until(effect, || db.read(|effects| effects.iter().any(|it| it == effect))).await;
}

/// A command as anybody who may write to the topic can make it.
fn command(
    id: MessageId,
    kind: &'static str,
    compensates: Option<MessageId>,
    body: &str,
) -> Record {
    let saga = SagaId::now();
    let envelope = Envelope {
        id,
        message_type: MessageType::new(kind),
        source: SHOP,
        correlation: CorrelationId::from(saga),
        causation: None,
        traceparent: None,
        timestamp: SystemClock::new().now(),
        kind: Kind::Command(CommandHeaders {
            saga,
            step: StepName::new("reserve"),
            attempt: 1,
            attempts_before: 0,
            compensates,
            reply_partition: Some(0),
        }),
        payload: Payload::from(body.as_bytes().to_vec()),
    };
    to_stock(envelope.encode())
}

fn reserve(order: &str, trouble: &str) -> Record {
    let body = format!(r#"{{"order":"{order}","trouble":"{trouble}"}}"#);
    command(MessageId::now(), "Reserve", None, &body)
}

fn to_stock(value: Bytes) -> Record {
    let topic = STOCK.commands();
    Record { topic, partition: Some(0), key: Bytes::new(), value, headers: Vec::new() }
}

/// Sends records to the stock, whether or not it runs.
async fn send(transport: &MemoryTransport, records: Vec<Record>) {
    transport.ensure_topics(&[STOCK.commands(), STOCK.events()]).await.expect("topics");
    let publisher = transport.publisher().await.expect("a publisher");
    publisher.publish(records).await.expect("published");
}

/// Tells that an order was placed.
async fn tell(transport: &MemoryTransport, order: &str, trouble: &str) {
    transport.ensure_topics(&[OrderPlaced::SOURCE.events()]).await.expect("topics");
    let db = database();
    let fact = OrderPlaced { order: order.into(), trouble: trouble.into() };
    let mut transaction = db.begin().await.expect("begin");
    Db::connection(&mut transaction).enqueue(OutboxRow::fact(&fact, order).expect("encodable"));
    transaction.commit().await.expect("commit");
    let relay = Relay::start(db.clone(), transport.clone());
    until("the fact is published", || db.outbox_len() == 0).await;
    relay.shutdown().await.expect("an orderly end");
}
