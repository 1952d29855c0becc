//! Kills or fails the process at every durable write of an order, recovers, and compares.

mod support;

use std::time::Duration;

use saga_core::{
    Engine, EngineBuilder, MemoryStore, MemoryTransport, Participant, RunningParticipant, Status,
};
use saga_testkit::{Faults, Faulty, ManualClock, Moment, Operation};
use support::{
    Conn, Db, Effects, SHOP, Shop, bank, ended, engine, key, order, participants, saga, stock,
};
use tokio::runtime::Runtime;

/// One process: an engine and its participants, all writing through stores that fail together.
struct Process {
    engine: Engine,
    participants: Vec<RunningParticipant>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Participants behind the transport, each write of engine and participants a crash point.
    Remote,
    /// Participants inside the engine's transactions.
    Local,
}

struct Durable {
    clock: ManualClock,
    sagas: Db,
    effects: Db,
    transport: MemoryTransport,
}

impl Durable {
    fn new() -> Self {
        let clock = ManualClock::new();
        let db = || MemoryStore::with_state(Effects::new()).clock(clock.clone());
        Self { sagas: db(), effects: db(), transport: MemoryTransport::new(), clock }
    }

    fn process(&self, shape: Shape, faults: &Faults) -> Process {
        let shop = Shop::default();
        let sagas = Faulty::new(self.sagas.clone(), faults);
        match shape {
            Shape::Remote => {
                let effects = Faulty::new(self.effects.clone(), faults);
                let participants = participants(&shop, &effects, &self.transport);
                let engine = engine(sagas, &self.transport);
                Process { engine, participants: participants.into() }
            }
            Shape::Local => {
                let inside: [Participant<Conn>; 2] = [stock(&shop), bank(&shop)];
                let builder = Engine::builder(SHOP, sagas).saga(saga()).clock(self.clock.clone());
                let builder = inside.into_iter().fold(builder, EngineBuilder::local);
                Process { engine: builder.start().expect("fits"), participants: Vec::new() }
            }
        }
    }

    fn effects(&self, shape: Shape) -> Effects {
        match shape {
            Shape::Remote => self.effects.read(Clone::clone),
            Shape::Local => self.sagas.read(Clone::clone),
        }
    }
}

/// Runs one order through a process that dies as the script says and a second one that does not.
async fn run(shape: Shape, trouble: &str, script: impl Fn(&Faults)) -> (Status, Effects, u64) {
    let durable = Durable::new();
    let clock = durable.clock.clone();
    let time = async {
        if matches!(shape, Shape::Remote) {
            return std::future::pending().await;
        }
        // Nobody but the clock tells an engine that a dead one left a saga with its own participants.
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        loop {
            pace.tick().await;
            clock.advance(Duration::from_millis(500));
        }
    };
    tokio::select! {
        result = run_in(durable, shape, trouble, script) => result,
        never = time => never,
    }
}

async fn run_in(
    durable: Durable,
    shape: Shape,
    trouble: &str,
    script: impl Fn(&Faults),
) -> (Status, Effects, u64) {
    let faults = Faults::new();
    script(&faults);
    // A runtime of its own, so that everything of the process dies at once, wherever it waits.
    let runtime = Runtime::new().expect("a runtime");
    let first = {
        let _inside = runtime.enter();
        durable.process(shape, &faults)
    };
    let ending = async {
        let started =
            first.engine.start(key("o-1"), order("o-1", trouble)).await.expect("accepted");
        ended(&first.engine, started.saga()).await
    };
    let status = tokio::select! {
        status = ending => Some(status),
        () = faults.killed() => None,
    };
    let writes = faults.calls(Operation::Write);
    // A write that is under way must not be made after the next process has looked.
    let death = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(Duration::from_secs(10)));
    death.await.expect("the process dies");
    drop(first);
    if let Some(status) = status {
        return (status, durable.effects(shape), writes);
    }
    let second = durable.process(shape, &Faults::new());
    // A client that got no answer asks again under the same key.
    let started = second.engine.start(key("o-1"), order("o-1", trouble)).await.expect("accepted");
    let status = ended(&second.engine, started.saga()).await;
    drop(second.participants);
    (status, durable.effects(shape), writes)
}

async fn every_point(shape: Shape, trouble: &str, at_least: u64) {
    let (status, effects, writes) = run(shape, trouble, |_| {}).await;
    assert!(writes >= at_least, "saw {writes} durable writes of {at_least}");
    for nth in 1..=writes {
        for moment in [Moment::Before, Moment::After] {
            let killed =
                run(shape, trouble, |faults| faults.kill_at(Operation::Write, nth, moment));
            let (got, done, _) = killed.await;
            assert_eq!(
                (got, &done),
                (status, &effects),
                "{shape:?} {trouble}: killed {moment:?} write {nth}"
            );
            let failed =
                run(shape, trouble, |faults| faults.fail_at(Operation::Write, nth, moment));
            let (got, done, _) = failed.await;
            assert_eq!(
                (got, &done),
                (status, &effects),
                "{shape:?} {trouble}: failed {moment:?} write {nth}"
            );
        }
    }
}

/// F01, F03, I1, I4, I8.
#[tokio::test]
async fn a_remote_order_that_completes_survives_every_crash() {
    every_point(Shape::Remote, "", 4).await;
}

/// F01, F03, I1, I4, I8.
#[tokio::test]
async fn a_remote_order_that_is_compensated_survives_every_crash() {
    every_point(Shape::Remote, "capture:reject", 4).await;
}

/// F01, F03, I1, I4, I8.
#[tokio::test]
async fn a_local_order_that_completes_survives_every_crash() {
    every_point(Shape::Local, "", 1).await;
}

/// F01, F03, I1, I4, I8.
#[tokio::test]
async fn a_local_order_that_is_compensated_survives_every_crash() {
    every_point(Shape::Local, "capture:reject", 1).await;
}

#[tokio::test]
async fn a_local_order_that_is_tried_again_and_compensated_survives_every_crash() {
    every_point(Shape::Local, "authorize:fail", 4).await;
}

#[tokio::test]
async fn a_local_order_that_cannot_go_on_survives_every_crash() {
    every_point(Shape::Local, "ship:terminal", 2).await;
}
