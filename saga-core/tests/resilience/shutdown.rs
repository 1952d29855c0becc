//! Stopping always comes to an end.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use saga_core::message::Outcome;
use saga_core::transport::{MemoryPublisher, MemorySubscriber, Subscription};
use saga_core::{
    Context, Handle, HandleExternal, HandlerResult, IdempotencyKey, MemoryStore, MemoryTransport,
    MessageId, Participant, Relay, Reply, SagaData as _, Status, Topic, Transport, TransportError,
};
use saga_testkit::{Faults, Faulty, Moment, Operation};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::killers::replies;
use crate::support::{
    Conn, Done, Order, Release, Reserve, STOCK, Shop, bank, engine, key, order, participants, stock,
};
use crate::{command, database, reserve, send, until};

/// A transport whose settings the broker refuses.
struct Misconfigured;

impl Transport for Misconfigured {
    type Publisher = MemoryPublisher;
    type Subscriber = MemorySubscriber;

    async fn ensure_topics(&self, _: &[Topic]) -> Result<(), TransportError> {
        Err(TransportError::Configuration { reason: "no such setting".into() })
    }

    async fn publisher(&self) -> Result<MemoryPublisher, TransportError> {
        MemoryTransport::new().publisher().await
    }

    async fn subscriber(&self, it: Subscription) -> Result<MemorySubscriber, TransportError> {
        MemoryTransport::new().subscriber(it).await
    }
}

#[tokio::test]
async fn a_participant_that_stopped_by_itself_can_be_shut_down() {
    let mut stock = stock(&Shop::default()).start(database(), Misconfigured);
    stock.stopped().await.expect_err("the settings are refused");
    stock.shutdown().await.expect("its error was told once");
}

/// Another system that takes a call and never answers.
struct Hangs(mpsc::UnboundedSender<()>);

impl HandleExternal<Reserve> for Hangs {
    async fn call(&self, _: Reserve, _: IdempotencyKey) -> HandlerResult<Done> {
        self.0.send(()).expect("the test listens");
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_does_not_hold_up_a_shutdown() {
    let transport = MemoryTransport::new();
    let (called, mut calls) = mpsc::unbounded_channel();
    let stock = Participant::<Conn>::builder(STOCK).handle_external::<Reserve>(Hangs(called));
    let stock = stock.build().expect("sound").start(database(), transport.clone());
    send(&transport, vec![reserve("o-1", "")]).await;
    calls.recv().await.expect("called");
    let stopped = timeout(Duration::from_secs(10), stock.shutdown()).await;
    assert!(matches!(stopped, Ok(Ok(()))), "a hanging call holds up the shutdown: {stopped:?}");
}

/// Takes 15 ms for each order, so that a batch takes seconds, and counts what it begins.
#[derive(Clone, Default)]
struct Steady(Arc<AtomicUsize>);

impl Handle<Reserve, Conn> for Steady {
    async fn handle(&self, command: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        self.0.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(15)).await;
        cx.connection().push(format!("reserve {}", command.order));
        Ok(Reply::succeeded(Done {}))
    }
}

impl Handle<Release, Conn> for Steady {
    async fn handle(&self, command: Release, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        self.0.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(15)).await;
        cx.connection().push(format!("release {}", command.order));
        Ok(Reply::succeeded(Done {}))
    }
}

/// F06, I15: what was fetched and takes longer than a shutdown waits is left between two transactions.
#[tokio::test(start_paused = true)]
async fn i15_a_shutdown_in_the_midst_of_a_long_batch_has_nothing_begun_twice() {
    const ORDERS: usize = 512;
    let (transport, db, steady) = (MemoryTransport::new(), database(), Steady::default());
    let begun = || steady.0.load(SeqCst);
    let start = || {
        let stock = Participant::<Conn>::builder(STOCK).handle::<Reserve>(steady.clone());
        stock.build().expect("sound").start(db.clone(), transport.clone())
    };
    send(&transport, (0..ORDERS).map(|n| reserve(&format!("o-{n}"), "")).collect()).await;
    let first = start();
    until("it is in the midst of it", || begun() > 100).await;
    timeout(Duration::from_secs(10), first.shutdown()).await.expect("in time").expect("in order");
    assert!(begun() < 200, "{} were begun in all", begun());
    assert_eq!(db.read(Vec::len), begun(), "and each was carried out");

    let second = start();
    let done = async {
        while db.read(Vec::len) < ORDERS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(1), done).await.expect("the rest is carried out");
    assert_eq!(begun(), ORDERS, "nothing was begun twice");
    second.shutdown().await.expect("an orderly end");
}

/// Counts its calls, which take two seconds.
#[derive(Clone, Default)]
struct Distant(Arc<AtomicUsize>);

impl HandleExternal<Reserve> for Distant {
    async fn call(&self, _: Reserve, _: IdempotencyKey) -> HandlerResult<Done> {
        self.0.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Reply::succeeded(Done {}))
    }
}

/// F06, I15: a batch that is left does not take the calls with it that are being made beside it.
#[tokio::test(start_paused = true)]
async fn i15_a_shutdown_in_the_midst_of_a_batch_awaits_the_calls_beside_it() {
    let (transport, db) = (MemoryTransport::new(), database());
    let (distant, steady) = (Distant::default(), Steady::default());
    let start = || {
        let stock = Participant::<Conn>::builder(STOCK).handle_external::<Reserve>(distant.clone());
        let stock = stock.handle::<Release>(steady.clone()).build().expect("sound");
        stock.start(db.clone(), transport.clone())
    };
    let call = reserve("called", "");
    let releases = (0..250).map(|n| {
        let body = format!(r#"{{"order":"o-{n}","trouble":""}}"#);
        command(MessageId::now(), "Release", None, &body)
    });
    send(&transport, [call.clone()].into_iter().chain(releases).collect()).await;
    let first = start();
    until("it is in the midst of it", || steady.0.load(SeqCst) > 50).await;
    assert_eq!(distant.0.load(SeqCst), 1, "the call is being made");
    timeout(Duration::from_secs(10), first.shutdown()).await.expect("in time").expect("in order");
    assert!(steady.0.load(SeqCst) < 150, "the batch is left");

    let second = start();
    assert_eq!(replies(&transport, &call).await, [Outcome::Succeeded]);
    until("the rest is carried out", || steady.0.load(SeqCst) == 250).await;
    second.shutdown().await.expect("an orderly end");
    assert_eq!(distant.0.load(SeqCst), 1, "the call was recorded");
}

/// F06: not even a store that never answers holds up a shutdown for more than 10 s.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hold_up_a_shutdown() {
    let (transport, faults) = (MemoryTransport::new(), Faults::new());
    let (db, sagas) = (Faulty::new(database(), &faults), MemoryStore::new());
    faults.kill_at(Operation::Commit, 1, Moment::Before);
    let engine = engine(Faulty::new(sagas, &faults), &transport);
    let stock = stock(&Shop::default()).start(db.clone(), transport.clone());
    let relay = Relay::start(db, transport);
    let starts = engine.clone();
    tokio::spawn(async move { starts.start(key("o-1"), order("o-1", "")).await });
    faults.killed().await;
    let all = async { tokio::join!(engine.shutdown(), stock.shutdown(), relay.shutdown()) };
    let (engine, stock, relay) = timeout(Duration::from_secs(10), all).await.expect("in time");
    engine.and(stock).and(relay).expect("it was asked for");
}

/// F07, I1, I3, I4, I8: everything is asked to stop under load, and killed at one of its next writes.
#[test]
fn f07_a_death_while_everything_stops_loses_and_doubles_nothing() {
    let (mut deaths, mut rounds) = (0, 0);
    while deaths < 6 {
        rounds += 1;
        assert!(rounds <= 500, "{deaths} deaths in {rounds} rounds");
        // Few are left: each service commits what is in its hands, and no more.
        let nth = 1 + rounds / 2 % 2;
        let moment = if rounds % 2 == 0 { Moment::Before } else { Moment::After };
        let (transport, faults, shop) = (MemoryTransport::new(), Faults::new(), Shop::default());
        let (db, sagas) = (database(), MemoryStore::new());
        let (inside, outside) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let accepted = Mutex::new(Vec::new());
        let work = async {
            let engine = engine(Faulty::new(sagas.clone(), &faults), &transport);
            let [stock, bank] = [stock(&shop), bank(&shop)]
                .map(|it| it.start(Faulty::new(db.clone(), &faults), transport.clone()));
            let load = async {
                for n in 0.. {
                    let name = format!("o-{n}");
                    let Ok(_) = engine.start(key(&name), order(&name, "")).await else { break };
                    accepted.lock().unwrap().push(name);
                }
            };
            let end = async {
                until("it is under way", || db.read(Vec::len) >= 20).await;
                faults.kill_at(Operation::Write, faults.calls(Operation::Write) + nth, moment);
                tokio::join!(engine.shutdown(), stock.shutdown(), bank.shutdown())
            };
            tokio::join!(end, load).0
        };
        inside.block_on(async {
            tokio::select! {
                (engine, stock, bank) = work => {
                    engine.and(stock).and(bank).expect("an orderly end");
                }
                () = faults.killed() => deaths += 1,
            }
        });
        inside.shutdown_timeout(Duration::from_secs(10));
        let accepted = accepted.into_inner().unwrap();
        outside.block_on(async {
            let engine = engine(sagas.clone(), &transport);
            let _participants = participants(&shop, &db, &transport);
            for it in &accepted {
                let saga = engine.find(Order::SAGA, key(it)).await.expect("found");
                let outcome = engine.outcome(saga.expect("what was accepted is durable"));
                let outcome = timeout(Duration::from_secs(20), outcome).await;
                assert_eq!(outcome.expect("in time").expect("works"), Status::Completed, "{it}");
            }
        });
        let mut done = db.read(Clone::clone);
        done.sort();
        let times = |effect: &str| done.iter().filter(|it| *it == effect).count();
        for (it, step) in accepted
            .iter()
            .flat_map(|it| ["reserve", "authorize", "capture", "ship"].map(|step| (it, step)))
        {
            let effect = format!("{step} {it}");
            assert_eq!(times(&effect), 1, "{effect}: {moment:?} write {nth} of the end");
        }
        // Nor is anything doubled for an order whose acceptance nobody heard of.
        let effects = done.len();
        done.dedup();
        assert_eq!(done.len(), effects, "{moment:?} write {nth} of the end");
    }
}
