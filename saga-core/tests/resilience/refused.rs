//! What the broker refuses waits with what follows under its key, and everything else goes on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use saga_core::store::Transactional as _;
use saga_core::transport::{MemoryPublisher, MemorySubscriber, Receipt, Subscription};
use saga_core::{
    Engine, Fact as _, MemoryTransport, Publisher, Relay, Status, Topic, Transport, TransportError,
};
use saga_core::{store::OutboxRow, transport::Record};

use crate::support::{Db, OrderPlaced, SHOP, STOCK, Shop, key, order, stock};
use crate::{database, one_step, until};

/// A broker that refuses what contains one of some words, until it is mended; and whole topics.
#[derive(Clone)]
struct Picky {
    inner: MemoryTransport,
    refuses: Arc<Mutex<HashSet<String>>>,
    refusals: Arc<AtomicU32>,
    taken: Arc<Mutex<Vec<Record>>>,
}

struct PickyPublisher {
    inner: MemoryPublisher,
    picky: Picky,
    has_failed: Mutex<bool>,
}

impl Picky {
    fn refusing<const N: usize>(words: [&str; N]) -> Self {
        let refuses = words.into_iter().map(str::to_owned).collect();
        let refuses = Arc::new(Mutex::new(refuses));
        let (refusals, taken) = (Arc::default(), Arc::default());
        Self { inner: MemoryTransport::new(), refuses, refusals, taken }
    }

    fn mend(&self) {
        self.refuses.lock().expect("no test panics here").clear();
    }

    fn refuses(&self, record: &Record) -> bool {
        let value = String::from_utf8_lossy(&record.value);
        let refuses = self.refuses.lock().expect("no test panics here");
        refuses.iter().any(|word| value.contains(word) || record.topic.as_str() == word)
    }
}

impl Transport for Picky {
    type Publisher = PickyPublisher;
    type Subscriber = MemorySubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.inner.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<PickyPublisher, TransportError> {
        let inner = self.inner.publisher().await?;
        Ok(PickyPublisher { inner, picky: self.clone(), has_failed: Mutex::default() })
    }

    async fn subscriber(&self, it: Subscription) -> Result<MemorySubscriber, TransportError> {
        self.inner.subscriber(it).await
    }
}

impl Publisher for PickyPublisher {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.inner.partitions(topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        let mut has_failed = self.has_failed.lock().expect("no test panics here");
        let refused = records.iter().find(|it| self.picky.refuses(it));
        if *has_failed {
            let source = "a record before was refused".into();
            return Receipt::settled(Err(TransportError::PublisherFailed {
                operation: "publish",
                source,
            }));
        }
        if let Some(refused) = refused {
            *has_failed = true;
            self.picky.refusals.fetch_add(1, Ordering::SeqCst);
            let (topic, source) = (refused.topic.clone(), "it does not please".into());
            return Receipt::settled(Err(TransportError::Refused { topic, source }));
        }
        self.picky.taken.lock().expect("no test panics here").extend(records.iter().cloned());
        self.inner.publish(records)
    }
}

/// Enqueues a fact about each order, in one transaction.
async fn enqueue(db: &Db, facts: &[(&str, &str)]) {
    let mut transaction = db.begin().await.expect("begin");
    for (order, trouble) in facts {
        let fact = OrderPlaced { order: (*order).to_owned(), trouble: (*trouble).to_owned() };
        let row = OutboxRow::fact(&fact, order).expect("encodable");
        Db::connection(&mut transaction).enqueue(row);
    }
    transaction.commit().await.expect("commit");
}

/// What was said about an order, in the order of its topic.
fn told(transport: &Picky, order: &str) -> Vec<String> {
    let records = transport.taken.lock().expect("no test panics here");
    let values = records.iter().filter(|it| it.key == order).map(|it| {
        let envelope = saga_core::Envelope::decode(it.value.clone()).expect("an envelope");
        let fact: OrderPlaced = serde_json::from_slice(envelope.payload.as_bytes()).expect("JSON");
        fact.trouble
    });
    values.collect()
}

/// F16, I5, I7, I12.
#[tokio::test(start_paused = true)]
async fn f16_a_refused_fact_holds_up_its_own_key_and_goes_out_first_once_it_is_taken() {
    let (transport, db) = (Picky::refusing(["bad-1", "bad-2"]), database());
    transport.ensure_topics(&[OrderPlaced::SOURCE.events()]).await.expect("topics");
    enqueue(&db, &[("a", "0"), ("a", "bad-1"), ("b", "0"), ("a", "2"), ("c", "bad-2")]).await;
    let relay = Relay::start(db.clone(), transport.clone());
    until("b is told", || told(&transport, "b") == ["0"]).await;
    enqueue(&db, &[("c", "1"), ("b", "1"), ("a", "3")]).await;
    until("b goes on", || told(&transport, "b") == ["0", "1"]).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(told(&transport, "a"), ["0"], "what follows under a key waits");
    assert!(told(&transport, "c").is_empty());
    assert_eq!(db.outbox_len(), 5, "what waits stays in the outbox");
    let refusals = transport.refusals.load(Ordering::SeqCst);
    assert!(refusals < 60, "{refusals} tries in five minutes");

    transport.mend();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(told(&transport, "a"), ["0", "bad-1", "2", "3"]);
    assert_eq!(told(&transport, "c"), ["bad-2", "1"]);
    assert_eq!(db.outbox_len(), 0);
    relay.shutdown().await.expect("an orderly end");
}

/// F16, I12: the commands of one tick are one row of the outbox, of which one record waits.
#[tokio::test(start_paused = true)]
async fn f16_a_refused_command_holds_up_its_own_saga() {
    let (transport, db) = (Picky::refusing(["o-7\""]), database());
    let stock = stock(&Shop::default()).start(db.clone(), transport.clone());
    let engine = Engine::builder(SHOP, db.clone()).saga(one_step()).transport(transport.clone());
    let engine = engine.start().expect("the parts fit");
    let names: Vec<_> = (0..50).map(|number| format!("o-{number}")).collect();
    let starts = join_all(names.iter().map(|it| engine.start(key(it), order(it, "")))).await;
    let sagas: Vec<_> = starts.into_iter().map(|it| it.expect("accepted")).collect();
    for (number, saga) in sagas.iter().enumerate().filter(|(number, _)| *number != 7) {
        let end = tokio::time::timeout(Duration::from_secs(5), saga.outcome()).await;
        let end = end.unwrap_or_else(|_| panic!("saga {number} waits for another"));
        assert_eq!(end.expect("the engine works"), Status::Completed);
    }
    transport.mend();
    let end = tokio::time::timeout(Duration::from_secs(20), sagas[7].outcome()).await;
    assert_eq!(end.expect("it goes on").expect("the engine works"), Status::Completed);
    until("the outbox is empty", || db.outbox_len() == 0).await;
    engine.shutdown().await.expect("an orderly end");
    stock.shutdown().await.expect("an orderly end");
}

/// F16: who is not let in to a topic tries it a few times a minute, not once for each record.
#[tokio::test(start_paused = true)]
async fn f16_a_topic_that_takes_nothing_holds_up_no_other_topic() {
    let commands = STOCK.commands();
    let (transport, db) = (Picky::refusing([commands.as_str()]), database());
    transport.ensure_topics(&[OrderPlaced::SOURCE.events()]).await.expect("topics");
    let stock = stock(&Shop::default()).start(db.clone(), transport.clone());
    let engine = Engine::builder(SHOP, db.clone()).saga(one_step()).transport(transport.clone());
    let engine = engine.start().expect("the parts fit");
    let names: Vec<_> = (0..500).map(|number| format!("o-{number}")).collect();
    let starts = join_all(names.iter().map(|it| engine.start(key(it), order(it, "")))).await;
    let sagas: Vec<_> = starts.into_iter().map(|it| it.expect("accepted")).collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let refusals = transport.refusals.load(Ordering::SeqCst);
    assert!(refusals < 100, "{refusals} refusals of 500 commands in ten seconds");
    transport.mend();
    for saga in sagas {
        assert_eq!(saga.outcome().await.expect("the engine works"), Status::Completed);
    }
    engine.shutdown().await.expect("an orderly end");
    stock.shutdown().await.expect("an orderly end");
}

/// F16, I5, I7, I16: beyond some megabytes, what has to wait does so in the store.
#[tokio::test(start_paused = true)]
async fn f16_more_than_fits_behind_a_refused_fact_stays_in_the_store_and_in_order() {
    let (transport, db) = (Picky::refusing(["bad"]), database());
    transport.ensure_topics(&[OrderPlaced::SOURCE.events()]).await.expect("topics");
    let relay = Relay::start(db.clone(), transport.clone());
    let large = |number: u32| format!("{number} {}", "x".repeat(900_000));
    enqueue(&db, &[("a", "bad")]).await;
    for number in 0..8 {
        enqueue(&db, &[("a", &large(number))]).await;
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    enqueue(&db, &[("a", "last")]).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(told(&transport, "a").is_empty());
    assert_eq!(db.outbox_len(), 10);
    transport.mend();
    tokio::time::sleep(Duration::from_mins(3)).await;
    let words = told(&transport, "a");
    let words: Vec<_> = words.iter().filter_map(|it| it.split(' ').next()).collect();
    assert_eq!(words, ["bad", "0", "1", "2", "3", "4", "5", "6", "7", "last"]);
    assert_eq!(db.outbox_len(), 0);
    relay.shutdown().await.expect("an orderly end");
}
