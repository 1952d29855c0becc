//! What many of one thing may not do to another thing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use saga_core::store::{OutboxRow, Transactional as _};
use saga_core::transport::{
    Acknowledgement, MemoryPublisher, MemorySubscriber, Receipt, Record, Subscription,
};
use saga_core::{
    Clock, Engine, Error, Fact as _, MemoryStore, MemoryTransport, Publisher, Relay, Saga, SagaId,
    Status, Step, StepName, Timestamp, Topic, Transport, TransportError,
};
use saga_testkit::{Faults, Faulty, ManualClock, Operation};
use tokio::time::timeout;

use crate::strict::Strict;
use crate::support::{Db, Order, OrderPlaced, Reserve, SHOP, Shop, key, order, stock};
use crate::{ReserveOnly, database, one_step, until, until_done};

/// F73.
#[tokio::test]
async fn a_timer_fires_while_callers_flood_the_engine() {
    let (clock, nap) = (ManualClock::new(), Duration::from_secs(1));
    let store = Strict { db: database().clock(clock.clone()), ..Strict::new() };
    let saga = Saga::<Order>::builder().wait(StepName::new("nap"), move |_| nap).then(ReserveOnly);
    let engine = Engine::builder(SHOP, store.clone())
        .saga(saga.build().expect("sound"))
        .local(stock(&Shop::default()))
        .clock(clock.clone())
        .tick_max(16)
        .start()
        .expect("the parts fit");
    engine.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    // Each asks again at once, so that requests always wait for more ticks than one.
    let callers = (0..100).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            while !matches!(engine.cancel(SagaId::now()).await, Err(Error::Stopped)) {}
        })
    });
    let callers: Vec<_> = callers.collect();
    engine.cancel(SagaId::now()).await.expect_err("no such saga");
    clock.advance(nap);
    until_done(&store.db, "reserve o-1").await;
    engine.shutdown().await.expect("an orderly end");
    join_all(callers).await;
}

/// A clock that is wrong by so many microseconds.
struct Wrong(ManualClock, i64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.now().as_micros() + self.1)
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.sleep_until(Timestamp::from_micros(at.as_micros() - self.1)).await;
    }
}

/// F70: the store's clock decides, also between engines that are twenty minutes apart.
#[tokio::test]
async fn f70_a_timer_fires_once_and_in_time_whatever_the_engines_clocks_say() {
    const MINUTE: Duration = Duration::from_mins(1);
    const OFF_US: i64 = 600_000_000;
    for wrong_by in [vec![OFF_US], vec![-OFF_US], vec![OFF_US, -OFF_US]] {
        let (clock, nap) = (ManualClock::new(), 60 * MINUTE);
        let db = database().clock(clock.clone());
        let engines: Vec<_> = wrong_by
            .iter()
            .map(|us| {
                let saga = Saga::<Order>::builder();
                let saga = saga.wait(StepName::new("nap"), move |_| nap).then(ReserveOnly);
                Engine::builder(SHOP, db.clone())
                    .saga(saga.build().expect("sound"))
                    .local(stock(&Shop::default()))
                    .clock(Wrong(clock.clone(), *us))
                    .start()
                    .expect("the parts fit")
            })
            .collect();
        let names: Vec<_> = (0..20).map(|n| format!("o-{n:02}")).collect();
        for (name, engine) in names.iter().zip(engines.iter().cycle()) {
            engine.start(key(name), order(name, "")).await.expect("accepted");
        }
        // Engines answer a request only after they have looked at what is due.
        let look = async || {
            for engine in engines.iter().chain(&engines) {
                engine.cancel(SagaId::now()).await.expect_err("no such saga");
            }
        };
        for minute in 1..60 {
            clock.advance(MINUTE);
            look().await;
            assert_eq!(db.read(Vec::len), 0, "{wrong_by:?}: early, after {minute} min");
        }
        clock.advance(MINUTE);
        until("all have fired", || db.read(Vec::len) == names.len()).await;
        clock.advance(MINUTE);
        look().await;
        let mut done = db.read(Clone::clone);
        done.sort();
        let once: Vec<_> = names.iter().map(|name| format!("reserve {name}")).collect();
        assert_eq!(done, once, "{wrong_by:?}");
        for engine in engines {
            engine.shutdown().await.expect("an orderly end");
        }
    }
}

#[tokio::test]
async fn a_relay_deletes_and_reads_many_rows_in_one_round_trip() {
    let (transport, faults, db) = (MemoryTransport::new(), Faults::new(), database());
    transport.ensure_topics(&[OrderPlaced::SOURCE.events()]).await.expect("topics");
    let mut transaction = db.begin().await.expect("begin");
    for _ in 0..400 {
        let fact = OrderPlaced { order: "o-1".into(), trouble: String::new() };
        Db::connection(&mut transaction).enqueue(OutboxRow::fact(&fact, "o-1").expect("encodable"));
    }
    transaction.commit().await.expect("commit");
    let relay = Relay::start(Faulty::new(db.clone(), &faults), transport);
    until("all rows are published and deleted", || db.outbox_len() == 0).await;
    relay.shutdown().await.expect("an orderly end");
    let calls = [Operation::Sent, Operation::Lease, Operation::Unsent].map(|it| faults.calls(it));
    assert!(calls.iter().sum::<u64>() < 40, "sent, lease, unsent for 400 rows: {calls:?}");
}

/// A broker that takes records and never acknowledges one.
#[derive(Clone)]
struct Silent<T>(T, Arc<Mutex<Vec<Acknowledgement>>>);

impl Transport for Silent<MemoryTransport> {
    type Publisher = Silent<MemoryPublisher>;
    type Subscriber = MemorySubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.0.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<Silent<MemoryPublisher>, TransportError> {
        Ok(Silent(self.0.publisher().await?, Arc::clone(&self.1)))
    }

    async fn subscriber(&self, it: Subscription) -> Result<MemorySubscriber, TransportError> {
        self.0.subscriber(it).await
    }
}

impl Publisher for Silent<MemoryPublisher> {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.0.partitions(topic).await
    }

    fn publish(&self, _: Vec<Record>) -> Receipt {
        let (acknowledgement, receipt) = Receipt::pending();
        self.1.lock().expect("no test panics here").push(acknowledgement);
        receipt
    }
}

const COMMAND_BYTES: usize = 900_000;

/// Sends a large command for little data.
struct Bulky;

impl Step<Order> for Bulky {
    const NAME: StepName = StepName::new("reserve");
    type Command = Reserve;

    fn command(&self, _: &Order) -> Reserve {
        Reserve { order: "x".repeat(COMMAND_BYTES), trouble: String::new() }
    }
}

/// F10, I3.
#[tokio::test]
async fn starts_are_accepted_while_the_broker_takes_nothing_and_wait_in_the_outbox() {
    const STARTS: usize = 60;
    let (transport, store) = (Silent(MemoryTransport::new(), Arc::default()), MemoryStore::new());
    let saga = Saga::<Order>::builder().then(Bulky).build().expect("sound");
    let engine = Engine::builder(SHOP, store.clone()).saga(saga).transport(transport.clone());
    let engine = engine.start().expect("the parts fit");
    for number in 0..STARTS {
        let start = engine.start(key(&format!("o-{number}")), order("", ""));
        let start = timeout(Duration::from_secs(5), start).await;
        start.expect("no start waits for the broker").expect("accepted");
    }
    assert_eq!(store.outbox_len(), STARTS, "every command must be durable");
    let taken = || std::mem::take(&mut *transport.1.lock().expect("no test panics here"));
    let mut published = taken();
    let megabytes = published.len() * COMMAND_BYTES / 1_000_000;
    assert!((30..40).contains(&megabytes), "{megabytes} MB wait in memory; the limit is 32 MB");

    // The broker is back.
    let mut count = 0;
    let drained = async {
        while store.outbox_len() > 0 {
            count += published.len();
            published.drain(..).for_each(|it| it.settle(Ok(())));
            tokio::time::sleep(Duration::from_millis(1)).await;
            published = taken();
        }
    };
    timeout(Duration::from_secs(5), drained).await.expect("what waits in the outbox goes out");
    assert_eq!(count, STARTS, "each command must be published once");
}

#[tokio::test]
async fn watchers_of_sagas_at_hand_cost_no_round_trips() {
    let (transport, faults) = (MemoryTransport::new(), Faults::new());
    let store = Faulty::new(MemoryStore::new(), &faults);
    let engine = Engine::builder(SHOP, store).saga(one_step()).transport(transport);
    let engine = engine.start().expect("the parts fit");
    let names: Vec<_> = (0..400).map(|number| format!("o-{number}")).collect();
    let starts = join_all(names.iter().map(|it| engine.start(key(it), order(it, "")))).await;
    let before = faults.calls(Operation::Load);
    for started in starts {
        let started = started.expect("accepted");
        tokio::spawn(async move { started.outcome().await });
    }
    tokio::task::yield_now().await;
    // Requests are served in order, so all watchers are known by then.
    engine.cancel(SagaId::now()).await.expect_err("no such saga");
    let loads = faults.calls(Operation::Load) - before;
    assert!(loads < 20, "{loads} loads for 400 watchers of sagas that are in memory");
}

/// On time that moves only when nothing else does: the watchers are looked after once a second.
#[tokio::test(start_paused = true)]
async fn a_crowd_of_watchers_keeps_none_of_them_from_being_told() {
    let (transport, sagas) = (MemoryTransport::new(), MemoryStore::new());
    let build = || {
        let engine = Engine::builder(SHOP, sagas.clone()).saga(one_step());
        engine.transport(transport.clone()).start().expect("the parts fit")
    };
    let (other, engine) = (build(), build());
    for _ in 0..3000 {
        let engine = engine.clone();
        tokio::spawn(async move { engine.outcome(SagaId::now()).await });
    }
    let names: Vec<_> = (0..20).map(|number| format!("o-{number}")).collect();
    let starts = join_all(names.iter().map(|it| other.start(key(it), order(it, "")))).await;
    let watchers = starts.into_iter().map(|started| {
        let (engine, saga) = (engine.clone(), started.expect("accepted").saga());
        tokio::spawn(async move { engine.outcome(saga).await })
    });
    let watchers: Vec<_> = watchers.collect();
    tokio::task::yield_now().await;
    engine.cancel(SagaId::now()).await.expect_err("no such saga");
    let _stock = stock(&Shop::default()).start(database(), transport.clone());
    let told = timeout(Duration::from_secs(5), join_all(watchers)).await;
    let told = told.expect("some of those who wait are never told");
    assert!(told.iter().all(|end| matches!(end, Ok(Ok(Status::Completed)))), "told: {told:?}");
}
