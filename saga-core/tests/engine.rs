//! The engine at work, on the memory store and the memory transport.

mod support;

use std::time::Duration;

use saga_core::machine::{HistoryKind, Operation, OperatorAction};
use saga_core::store::{OutboxRow, Transactional as _};
use saga_core::transport::{Publisher as _, Record};
use saga_core::{
    Engine, Error, MemoryStore, MemoryTransport, Participant, Relay, Saga, SagaId, Status,
    StepName, Transport as _,
};
use saga_testkit::ManualClock;
use support::{
    Conn, Db, Effects, Order, OrderPlaced, SHOP, STOCK, ShipGoods, Shop, bank, ended, engine, key,
    order, participants, place, saga, stock,
};

/// Everything in one process, talking over the memory transport.
struct World {
    engine: Engine,
    db: Db,
    sagas: MemoryStore,
    transport: MemoryTransport,
    shop: Shop,
    _participants: [saga_core::RunningParticipant; 2],
}

impl World {
    fn new() -> Self {
        let (transport, shop) = (MemoryTransport::new(), Shop::default());
        let (db, sagas) = (MemoryStore::with_state(Effects::new()), MemoryStore::new());
        let participants = participants(&shop, &db, &transport);
        let engine = engine(sagas.clone(), &transport);
        Self { engine, db, sagas, transport, shop, _participants: participants }
    }

    fn effects(&self) -> Effects {
        self.db.read(Clone::clone)
    }

    async fn kinds(&self, saga: SagaId) -> Vec<HistoryKind> {
        let history = self.engine.history(saga).await.expect("history");
        history.into_iter().map(|entry| entry.kind).collect()
    }
}

#[tokio::test]
async fn an_order_goes_through() {
    let world = World::new();
    assert_eq!(place(&world.engine, "o-1", "").await, Status::Completed);
    assert_eq!(world.effects(), ["reserve o-1", "authorize o-1", "capture o-1", "ship o-1"]);
}

/// I8.
#[tokio::test]
async fn a_rejection_undoes_what_was_done_in_reverse_order() {
    let world = World::new();
    assert_eq!(place(&world.engine, "o-1", "capture:reject").await, Status::Compensated);
    let effects = ["reserve o-1", "authorize o-1", "void o-1", "release o-1"];
    assert_eq!(world.effects(), effects);
}

/// I3.
#[tokio::test]
async fn starts_under_one_key_are_one_saga() {
    let world = World::new();
    let starts = (0..50).map(|_| world.engine.start(key("o-1"), order("o-1", "")));
    let started = futures_util::future::join_all(starts).await;
    let sagas: std::collections::HashSet<_> =
        started.iter().map(|it| it.as_ref().expect("accepted").saga()).collect();
    assert_eq!(sagas.len(), 1, "one key, one saga");
    let new = started.iter().filter(|it| it.as_ref().is_ok_and(saga_core::StartedSaga::is_new));
    assert_eq!(new.count(), 1, "one start is the first");
    let again = world.engine.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    assert!(!again.is_new() && sagas.contains(&again.saga()));
    assert_eq!(again.outcome().await.expect("outcome"), Status::Completed);
    assert_eq!(world.effects().len(), 4, "the steps ran once");
}

/// F14, I3.
#[tokio::test]
async fn a_fact_starts_a_saga_once() {
    let world = World::new();
    let relay = Relay::start(world.db.clone(), world.transport.clone());
    let fact = OrderPlaced { order: "o-1".into(), trouble: String::new() };
    for _ in 0..2 {
        let mut transaction = world.db.begin().await.expect("begin");
        let row = OutboxRow::fact(&fact, "o-1").expect("encodable");
        Db::connection(&mut transaction).enqueue(row);
        transaction.commit().await.expect("commit");
    }
    relay.wake();
    let saga = loop {
        match world.engine.find(<Order as saga_core::SagaData>::SAGA, key("o-1")).await {
            Ok(Some(saga)) => break saga,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(ended(&world.engine, saga).await, Status::Completed);
    // What is placed later ends later, so the second copy of the fact has been seen by then.
    assert_eq!(place(&world.engine, "o-2", "").await, Status::Completed);
    let reserved = world.effects().iter().filter(|it| *it == "reserve o-1").count();
    assert_eq!(reserved, 1);
}

/// I4.
#[tokio::test]
async fn a_failing_command_is_tried_again_and_its_effect_happens_once() {
    let world = World::new();
    assert_eq!(place(&world.engine, "o-1", "reserve:flaky").await, Status::Completed);
    assert_eq!(world.effects(), ["reserve o-1", "authorize o-1", "capture o-1", "ship o-1"]);
}

#[tokio::test]
async fn attempts_that_are_used_up_compensate() {
    let world = World::new();
    assert_eq!(place(&world.engine, "o-1", "authorize:fail").await, Status::Compensated);
    // Nothing was authorized, so there is nothing to void.
    assert_eq!(world.effects(), ["reserve o-1", "release o-1"]);
}

/// F05, I12.
#[tokio::test]
async fn a_panic_parks_its_own_saga_and_no_other() {
    let world = World::new();
    let broken = place(&world.engine, "o-1", "authorize:panic");
    let sound = place(&world.engine, "o-2", "");
    assert_eq!(tokio::join!(broken, sound), (Status::Parked, Status::Completed));
}

#[tokio::test]
async fn a_person_can_retry_skip_and_resolve() {
    let world = World::new();
    let started =
        world.engine.start(key("o-1"), order("o-1", "ship:terminal")).await.expect("accepted");
    let saga = started.saga();
    assert_eq!(ended(&world.engine, saga).await, Status::Parked);
    let view = world.engine.inspect(saga).await.expect("inspect").expect("exists");
    let failure = view.failure().expect("parked for a reason");
    assert_eq!(failure.step, Some(StepName::new("ship")));
    let operation =
        |action| Operation { by: "ada".into(), reason: "shipped by hand".into(), action };
    let cancelled = world.engine.cancel(saga).await;
    assert!(matches!(cancelled, Err(Error::Refused { .. })), "past the pivot: {cancelled:?}");
    world.engine.operate(saga, operation(OperatorAction::Skip)).await.expect("skipped");
    assert_eq!(ended(&world.engine, saga).await, Status::Completed);
    assert!(world.kinds(saga).await.contains(&HistoryKind::Operator));
}

/// F30, I11, I12.
#[tokio::test]
async fn a_broken_message_is_set_aside_and_the_next_one_handled() {
    let world = World::new();
    assert_eq!(place(&world.engine, "o-1", "").await, Status::Completed);
    let publisher = world.transport.publisher().await.expect("publisher");
    let record = |topic| Record {
        topic,
        partition: None,
        key: "k".into(),
        value: vec![0xff, 0, 0xff].into(),
        headers: Vec::new(),
    };
    for topic in [STOCK.commands(), STOCK.events()] {
        publisher.publish(vec![record(topic)]).await.expect("published");
    }
    assert_eq!(place(&world.engine, "o-2", "").await, Status::Completed);
    while world.db.dead_letters().is_empty() || world.sagas.dead_letters().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.db.dead_letters()[0].value, vec![0xff, 0, 0xff]);
    assert_eq!(world.sagas.dead_letters()[0].reason, "undecodable");
}

/// F63.
#[tokio::test]
async fn a_deadline_is_a_durable_timer() {
    let clock = ManualClock::new();
    let transport = MemoryTransport::new();
    let store = MemoryStore::new().clock(clock.clone());
    let start = || {
        Engine::builder(SHOP, store.clone())
            .saga(saga())
            .transport(transport.clone())
            .clock(clock.clone())
            .start()
            .expect("parts fit")
    };
    // Nobody answers. The engine dies with the command outstanding; another one keeps its deadline.
    let first = start();
    let started = first.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    let saga = started.saga();
    first.shutdown().await.expect("clean");
    let second = start();
    let outcome = second.outcome(saga);
    let time = async {
        loop {
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // The release that compensates is not answered either, so in the end a person must look.
    let status =
        tokio::select! { status = outcome => status.expect("works"), () = time => unreachable!() };
    assert_eq!(status, Status::Parked);
    let history = second.history(saga).await.expect("history");
    let timed_out = history.iter().filter(|entry| entry.kind == HistoryKind::TimedOut).count();
    assert_eq!(timed_out, 3 + 20, "three attempts to reserve, twenty to release");
}

/// F68, I17.
#[tokio::test]
async fn running_sagas_end_on_their_version_and_an_unknown_one_parks() {
    let (transport, shop) = (MemoryTransport::new(), Shop::default());
    let (db, store) = (MemoryStore::with_state(Effects::new()), MemoryStore::new());
    let first = engine(store.clone(), &transport);
    let started = first.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    first.shutdown().await.expect("clean");
    // Only a later version is deployed: the saga cannot go on, and says so.
    let later = Saga::<Order>::builder().version(2).then(ShipGoods).build().expect("sound");
    let second = Engine::builder(SHOP, store.clone())
        .saga(later)
        .transport(transport.clone())
        .start()
        .expect("parts fit");
    let _participants = participants(&shop, &db, &transport);
    let transported = second.outcome(started.saga());
    // The second engine hears of the saga when its stock is reserved, if `stock` is among its participants.
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(20), transported)
            .await
            .expect("in time")
            .expect("works"),
        Status::Parked
    );
    second.shutdown().await.expect("clean");
    // The version is deployed again beside the new one: a person says go on.
    let later = Saga::<Order>::builder().version(2).then(ShipGoods).build().expect("sound");
    let third = Engine::builder(SHOP, store)
        .saga(saga())
        .saga(later)
        .transport(transport.clone())
        .start()
        .expect("parts fit");
    let retry =
        Operation { by: "ada".into(), reason: "v1 is back".into(), action: OperatorAction::Retry };
    third.operate(started.saga(), retry).await.expect("retried");
    let view = third.inspect(started.saga()).await.expect("inspect").expect("exists");
    assert_ne!(view.status(), Status::Parked);
}

#[tokio::test]
async fn several_engines_share_the_work() {
    let world = World::new();
    let others = [
        engine(world.sagas.clone(), &world.transport),
        engine(world.sagas.clone(), &world.transport),
    ];
    let engines = [&world.engine, &others[0], &others[1]];
    let names: Vec<_> = (0..60).map(|number| format!("o-{number}")).collect();
    let placed = names.iter().enumerate().map(|(number, name)| {
        let trouble = if number % 5 == 0 { "capture:reject" } else { "" };
        place(engines[number % 3], name, trouble)
    });
    let ends = futures_util::future::join_all(placed).await;
    let completed = ends.iter().filter(|end| **end == Status::Completed).count();
    assert_eq!((completed, ends.len()), (48, 60));
    assert_eq!(world.effects().len(), 60 * 4, "each effect once");
    assert!(world.shop.calls.load(std::sync::atomic::Ordering::SeqCst) >= 240);
}

#[tokio::test]
async fn local_participants_need_no_transport() {
    let shop = Shop::default();
    let db = MemoryStore::with_state(Effects::new());
    let local = || -> Engine {
        let participants: [Participant<Conn>; 2] = [stock(&shop), bank(&shop)];
        let builder = Engine::builder(SHOP, db.clone()).saga(saga());
        participants
            .into_iter()
            .fold(builder, saga_core::EngineBuilder::local)
            .start()
            .expect("fits")
    };
    let engine = local();
    assert_eq!(place(&engine, "o-1", "").await, Status::Completed);
    assert_eq!(place(&engine, "o-2", "capture:reject").await, Status::Compensated);
    assert_eq!(place(&engine, "o-3", "authorize:fail").await, Status::Compensated);
    let (parked, sound) =
        tokio::join!(place(&engine, "o-4", "ship:panic"), place(&engine, "o-5", ""));
    assert_eq!((parked, sound), (Status::Parked, Status::Completed));
    let effects: Vec<_> =
        db.read(|all| all.iter().filter(|it| !it.ends_with("o-5")).cloned().collect());
    let expected = [
        "reserve o-1",
        "authorize o-1",
        "capture o-1",
        "ship o-1",
        "reserve o-2",
        "authorize o-2",
        "void o-2",
        "release o-2",
        "reserve o-3",
        "release o-3",
        "reserve o-4",
        "authorize o-4",
        "capture o-4",
    ];
    assert_eq!(effects, expected);
}
