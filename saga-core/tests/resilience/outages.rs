//! An outage of the broker or of the database, however long, uses up no attempt.

use std::time::Duration;

use saga_core::machine::HistoryKind;
use saga_core::{Engine, MemoryTransport, RunningParticipant, SagaId, Status};
use saga_testkit::{Faults, Faulty, SimulatedClock};

use crate::database;
use crate::support::{Db, SHOP, Shop, ended, key, order, participants, saga};

/// Much longer than all attempts of a step together.
const OUTAGE: Duration = Duration::from_hours(2);

/// An engine whose store and broker can go away, with a broker that participants reach at all times.
struct World {
    store: Faults,
    broker: Faults,
    engine: Engine,
    effects: Db,
    transport: MemoryTransport,
}

impl World {
    fn new() -> Self {
        Self::behind(Faults::new())
    }

    fn behind(broker: Faults) -> Self {
        let (clock, store) = (SimulatedClock::new(), Faults::new());
        let transport = MemoryTransport::new();
        let effects = database().clock(clock.clone());
        let sagas = Faulty::new(database().clock(clock.clone()), &store);
        let builder = Engine::builder(SHOP, sagas).saga(saga()).clock(clock);
        let builder = builder.transport(Faulty::new(transport.clone(), &broker));
        Self { store, broker, engine: builder.start().expect("fits"), effects, transport }
    }

    fn participate(&self) -> [RunningParticipant; 2] {
        participants(&Shop::default(), &self.effects, &self.transport)
    }

    /// Waits for the end of an order and makes sure that each step was asked for once.
    async fn ends_at_the_first_attempt(&self, saga: SagaId) {
        assert_eq!(ended(&self.engine, saga).await, Status::Completed);
        let history = self.engine.history(saga).await.expect("history");
        let attempts: Vec<_> = history.iter().map(|entry| entry.attempt).collect();
        assert!(attempts.iter().all(|attempt| *attempt <= 1), "{history:#?}");
        assert!(history.iter().all(|it| it.kind != HistoryKind::TimedOut), "{history:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f10_a_broker_that_goes_away_uses_up_no_attempt() {
    let world = World::new();
    let _participants = world.participate();
    let before = world.engine.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    world.ends_at_the_first_attempt(before.saga()).await;
    world.broker.outage();
    let during = world.engine.start(key("o-2"), order("o-2", "")).await.expect("accepted");
    tokio::time::sleep(OUTAGE).await;
    world.broker.revive();
    world.ends_at_the_first_attempt(during.saga()).await;
}

#[tokio::test(start_paused = true)]
async fn f10_a_broker_that_is_down_at_the_start_uses_up_no_attempt() {
    let broker = Faults::new();
    broker.outage();
    let world = World::behind(broker);
    let _participants = world.participate();
    let early = world.engine.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    tokio::time::sleep(OUTAGE).await;
    world.broker.revive();
    world.ends_at_the_first_attempt(early.saga()).await;
}

#[tokio::test(start_paused = true)]
async fn f40_a_database_that_goes_away_uses_up_no_attempt() {
    let world = World::new();
    let saga = world.engine.start(key("o-1"), order("o-1", "")).await.expect("accepted").saga();
    tokio::time::sleep(Duration::from_secs(29)).await;
    world.store.outage();
    tokio::time::sleep(OUTAGE).await;
    let _participants = world.participate();
    world.store.revive();
    world.ends_at_the_first_attempt(saga).await;
}
