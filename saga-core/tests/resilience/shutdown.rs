//! Stopping always comes to an end.

use std::sync::Mutex;
use std::time::Duration;

use saga_core::transport::{MemoryPublisher, MemorySubscriber, Subscription};
use saga_core::{
    HandleExternal, HandlerResult, IdempotencyKey, MemoryStore, MemoryTransport, Participant,
    SagaData as _, Status, Topic, Transport, TransportError,
};
use saga_testkit::{Faults, Faulty, Moment, Operation};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{
    Conn, Done, Order, Reserve, STOCK, Shop, bank, engine, key, order, participants, stock,
};
use crate::{database, reserve, send, until};

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

/// F07, I1, I3, I4, I8: everything is asked to stop under load, and killed at one of its next writes.
#[test]
fn f07_a_death_while_everything_stops_loses_and_doubles_nothing() {
    let mut deaths = 0;
    for (nth, moment) in (1..=8).flat_map(|nth| [Moment::Before, Moment::After].map(|it| (nth, it)))
    {
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
    assert!(deaths >= 4, "{deaths} deaths");
}
