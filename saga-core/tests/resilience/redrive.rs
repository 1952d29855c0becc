//! What was set aside comes back, once, and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use saga_core::participant::Handled;
use saga_core::store::{DeadLetter, DeadLetters as _, LetterFilter, OutboxRow, Transactional as _};
use saga_core::transport::{Delivery, Position};
use saga_core::{
    Engine, Fact as _, Inbox as _, LetterReport, LetterTask, MemoryStore, MemoryTransport,
    ParticipantName, Relay, SagaData as _, SagaStore, Status, StoreError, Timestamp,
    Transport as _,
};
use saga_testkit::{Faults, Faulty, Moment, Operation, SimulatedClock};

use crate::support::{
    Db, Effects, Order, OrderPlaced, SHOP, STOCK, Shop, ended, key, order, participants, saga,
    stock,
};
use crate::{database, one_step, reserve, until, until_done};

/// Longer than it takes until a letter is looked for, and shorter than a lease.
const SOON: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(30);

/// A shop whose orders are placed by facts; those with the trouble `bug` break it until it is mended.
struct World {
    sagas: MemoryStore,
    effects: Db,
    transport: MemoryTransport,
    is_mended: Arc<AtomicBool>,
    clock: SimulatedClock,
}

impl World {
    async fn new() -> Self {
        let (clock, transport) = (SimulatedClock::new(), MemoryTransport::new());
        transport.ensure_topics(&[OrderPlaced::SOURCE.events()]).await.expect("topics");
        let sagas = MemoryStore::new().clock(clock.clone());
        let effects = database().clock(clock.clone());
        Self { sagas, effects, transport, is_mended: Arc::default(), clock }
    }

    fn engine(&self) -> Engine {
        self.engine_on(self.sagas.clone())
    }

    fn engine_on(&self, store: impl SagaStore) -> Engine {
        let is_mended = Arc::clone(&self.is_mended);
        Engine::builder(SHOP, store)
            .saga(saga())
            .transport(self.transport.clone())
            .clock(self.clock.clone())
            .start_on::<OrderPlaced, Order>(move |fact| {
                let is_broken = fact.trouble == "bug" && !is_mended.load(Ordering::SeqCst);
                assert!(!is_broken, "a bug in the application");
                Some((key(&fact.order), order(&fact.order, "")))
            })
            .start()
            .expect("the parts fit")
    }

    fn mend(&self) {
        self.is_mended.store(true, Ordering::SeqCst);
    }

    /// Tells facts in this order: the customer, whose facts have one key, and then the order's trouble.
    async fn tell(&self, facts: &[(&str, &str, &str)]) {
        let db = database();
        let mut transaction = db.begin().await.expect("begin");
        for &(customer, order, trouble) in facts {
            let fact = OrderPlaced { order: order.into(), trouble: trouble.into() };
            let row = OutboxRow::fact(&fact, customer).expect("encodable");
            Db::connection(&mut transaction).enqueue(row);
        }
        transaction.commit().await.expect("commit");
        let relay = Relay::start(db.clone(), self.transport.clone());
        until("the facts are published", || db.outbox_len() == 0).await;
        relay.shutdown().await.expect("an orderly end");
    }

    /// Waits until an order was reserved; panics if it never is.
    async fn reserved(&self, order: &str) {
        let effect = format!("reserve {order}");
        let is_there = |effects: &Effects| effects.contains(&effect);
        in_time(&effect, || self.effects.read(is_there)).await;
    }

    /// The orders that were reserved, in this order.
    fn orders(&self) -> Vec<String> {
        let reserved = |effects: &Effects| -> Vec<String> {
            effects.iter().filter_map(|it| Some(it.strip_prefix("reserve ")?.to_owned())).collect()
        };
        self.effects.read(reserved)
    }

    async fn set_aside(&self, letters: usize) {
        let what = format!("{letters} letters");
        until(&what, || self.sagas.dead_letters().len() == letters).await;
    }

    async fn no_letter_is_left(&self) {
        in_time("no letter is left", || self.sagas.dead_letters().is_empty()).await;
    }
}

/// Waits longer than it takes until a letter is handed out once more.
async fn in_time(what: &str, happens: impl Fn() -> bool + Send + Sync) {
    let polled = async {
        while !happens() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(4 * LEASE, polled).await.is_ok(), "never: {what}");
}

fn redrive() -> LetterTask {
    LetterTask::redrive("ada", "mended")
}

/// F36, F77, I12.
///
/// The later facts of a broken one's key wait in order; other keys do not notice.
#[tokio::test(start_paused = true)]
async fn facts_wait_behind_a_broken_one_of_their_key_and_no_other() {
    let world = World::new().await;
    let engine = world.engine();
    let _participants = participants(&Shop::default(), &world.effects, &world.transport);
    world.tell(&[("ada", "a-0", ""), ("ada", "a-1", "bug"), ("ada", "a-2", "")]).await;
    world.tell(&[("bob", "b-1", ""), ("ada", "a-3", "")]).await;
    world.reserved("b-1").await;
    world.reserved("a-0").await;
    world.set_aside(3).await;
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!(world.orders().len(), 2, "they wait for a person: {:?}", world.orders());

    world.mend();
    let report = redrive().run(&world.sagas, &LetterFilter::all().reason("undecodable-fact")).await;
    assert_eq!(report.expect("run"), LetterReport { letters: 1, ..LetterReport::default() });
    world.reserved("a-3").await;
    world.no_letter_is_left().await;
    assert_eq!(world.orders()[2..], ["a-1", "a-2", "a-3"], "in order");
    world.tell(&[("ada", "a-4", "")]).await;
    world.reserved("a-4").await;
    assert!(world.sagas.dead_letters().is_empty(), "the key is free");
    engine.shutdown().await.expect("an orderly end");
}

/// F77, I11.
#[tokio::test(start_paused = true)]
async fn what_waits_goes_on_when_the_broken_one_is_given_up() {
    let world = World::new().await;
    let engine = world.engine();
    let _participants = participants(&Shop::default(), &world.effects, &world.transport);
    world.tell(&[("ada", "a-1", "bug"), ("ada", "a-2", "")]).await;
    world.set_aside(2).await;
    let broken = LetterFilter::all().reason("undecodable-fact");
    let discard = LetterTask::discard("ada", "the order was placed by phone");
    discard.run(&world.sagas, &broken).await.expect("run");
    world.reserved("a-2").await;
    world.no_letter_is_left().await;
    let [entry] = world.sagas.operations(0, 10).await.expect("read").try_into().expect("one");
    assert_eq!((entry.operation.by.as_str(), entry.offset), ("ada", 0));
    engine.shutdown().await.expect("an orderly end");
}

/// F77, I11.
///
/// The second is received with the first, and started in the same round, before the first turns out to be broken.
#[tokio::test(start_paused = true)]
async fn a_fact_waits_behind_one_that_cannot_start_in_the_same_round() {
    let world = World::new().await;
    let builder = Engine::builder(SHOP, world.sagas.clone()).saga(one_step());
    let builder = builder.transport(world.transport.clone()).clock(world.clock.clone());
    let builder = builder.start_on::<OrderPlaced, Order>(|fact| {
        Some((key(&fact.order), order(&fact.order, &fact.trouble)))
    });
    world.tell(&[("ada", "a-1", "no-command"), ("ada", "a-2", ""), ("bob", "b-1", "")]).await;
    let engine = builder.start().expect("the parts fit");
    let _participants = participants(&Shop::default(), &world.effects, &world.transport);
    world.set_aside(2).await;
    world.reserved("b-1").await;
    let reasons: Vec<_> = world.sagas.dead_letters().into_iter().map(|it| it.reason).collect();
    assert_eq!(reasons, ["unstartable", "waits-for-its-key"]);
    engine.shutdown().await.expect("an orderly end");
}

/// F77, F01.
#[tokio::test(start_paused = true)]
async fn a_key_is_held_by_the_next_engine_too() {
    let world = World::new().await;
    let first = world.engine();
    let _participants = participants(&Shop::default(), &world.effects, &world.transport);
    world.tell(&[("ada", "a-1", "bug")]).await;
    world.set_aside(1).await;
    first.shutdown().await.expect("an orderly end");
    let second = world.engine();
    world.tell(&[("ada", "a-2", "")]).await;
    world.set_aside(2).await;
    world.mend();
    redrive().run(&world.sagas, &LetterFilter::all()).await.expect("run");
    world.reserved("a-2").await;
    assert_eq!(world.orders(), ["a-1", "a-2"]);
    second.shutdown().await.expect("an orderly end");
}

/// Who does not say who they are and why is refused, and what nobody would take back is only discarded.
#[tokio::test]
async fn a_task_is_explained_and_leaves_out_what_nobody_takes_back() {
    let world = World::new().await;
    let position = Position { topic: STOCK.commands(), partition: 0, offset: 0, generation: 0 };
    let (key, value, timestamp) = (Bytes::new(), Bytes::new(), Timestamp::default());
    let delivery = Delivery { position, key, value, headers: Vec::new(), timestamp };
    let nobody = ParticipantName::new("unknown");
    let letter = DeadLetter::new(&nobody, delivery, "undecodable", "before it was kept who it was");
    let transaction = world.effects.begin().await.expect("begin");
    let handled = Handled { dead_letters: vec![letter], ..Handled::default() };
    world.effects.record(transaction, handled).await.expect("commit");

    let all = LetterFilter::all();
    for task in [LetterTask::redrive(" ", "mended"), LetterTask::discard("ada", "")] {
        let refused = task.run(&world.effects, &all).await.expect_err("it is not explained");
        assert!(matches!(refused, StoreError::Unexplained { .. }), "{refused}");
    }
    let left_out = LetterReport { of_nobody: 1, ..LetterReport::default() };
    for task in [redrive(), redrive().dry_run()] {
        assert_eq!(task.run(&world.effects, &all).await.expect("run"), left_out);
    }
    let done = LetterReport { letters: 1, ..LetterReport::default() };
    let discard = LetterTask::discard("ada", "nobody misses it");
    assert_eq!(discard.run(&world.effects, &all).await.expect("run"), done);
}

/// F36, I11.
#[tokio::test(start_paused = true)]
async fn a_letter_that_fails_again_is_set_aside_again_and_asked_for_no_more() {
    let world = World::new().await;
    let engine = world.engine();
    world.tell(&[("ada", "a-1", "bug")]).await;
    world.set_aside(1).await;
    let tried = world.sagas.dead_letters()[0].attempts;
    for redrives in 1..=3 {
        redrive().run(&world.sagas, &LetterFilter::all()).await.expect("run");
        tokio::time::sleep(4 * LEASE).await;
        let [letter] = world.sagas.dead_letters().try_into().expect("one letter");
        assert_eq!((letter.redrives, letter.redrive_at), (redrives, None));
        assert_eq!(letter.attempts, tried + redrives);
    }
    // Whoever redrives everything all the time ends here.
    let report = redrive().most_redrives(3).run(&world.sagas, &LetterFilter::all()).await;
    assert_eq!(report.expect("run"), LetterReport { left_out: 1, ..LetterReport::default() });
    engine.shutdown().await.expect("an orderly end");
}

/// F36, F01, F02, I4.
///
/// It dies after the effect and before the letter is settled, or cannot settle it: no effect is doubled.
#[tokio::test(start_paused = true)]
async fn a_letter_whose_consumer_dies_over_it_takes_effect_once() {
    for operation in [Operation::Commit, Operation::Redriven, Operation::Settled] {
        for moment in [Moment::Before, Moment::After] {
            let (world, faults) = (World::new().await, Faults::new());
            let engine = world.engine();
            world.tell(&[("ada", "a-1", "bug")]).await;
            world.set_aside(1).await;
            engine.shutdown().await.expect("an orderly end");
            world.mend();
            redrive().run(&world.sagas, &LetterFilter::all()).await.expect("run");

            faults.kill_at(operation, 1, moment);
            let dies = world.engine_on(Faulty::new(world.sagas.clone(), &faults));
            faults.killed().await;
            drop(dies);
            faults.revive();
            let lives = world.engine();
            let _participants = participants(&Shop::default(), &world.effects, &world.transport);
            world.reserved("a-1").await;
            world.no_letter_is_left().await;
            let saga = lives.find(Order::SAGA, key("a-1")).await.expect("find");
            let end = ended(&lives, saga.expect("started")).await;
            assert_eq!(end, Status::Completed, "{operation} {moment:?}");
            assert_eq!(world.orders(), ["a-1"], "{operation} {moment:?}");
            lives.shutdown().await.expect("an orderly end");
        }
    }
}

/// F36, I4: of a command that was handled, redriven once, twice, and ten thousand at once.
#[tokio::test(start_paused = true)]
async fn f36_a_redriven_command_takes_effect_once() {
    const FLOOD: u64 = 10_000;
    let world = World::new().await;
    let shop = Shop::default();
    let stock = stock(&shop).start(world.effects.clone(), world.transport.clone());
    let handled = reserve("o-1", "");
    crate::send(&world.transport, vec![handled.clone()]).await;
    until_done(&world.effects, "reserve o-1").await;

    let fresh = reserve("o-2", "");
    let letter = |offset: u64| {
        let record = if offset == 0 { &fresh } else { &handled };
        let position = Position { topic: STOCK.commands(), partition: 0, offset, generation: 0 };
        let (key, value, headers) = (record.key.clone(), record.value.clone(), Vec::new());
        let timestamp = Timestamp::default();
        let delivery = Delivery { position, key, value, headers, timestamp };
        DeadLetter::new(&STOCK, delivery, "by-hand", "a test put it here")
    };
    for round in 1..=2 {
        let dead_letters = (0..FLOOD).map(letter).collect();
        let transaction = world.effects.begin().await.expect("begin");
        let set_aside = Handled { dead_letters, ..Handled::default() };
        world.effects.record(transaction, set_aside).await.expect("commit");
        let dry = redrive().dry_run().run(&world.effects, &LetterFilter::all()).await;
        let expected = LetterReport { letters: 10_000, ..LetterReport::default() };
        assert_eq!(dry.expect("run"), expected);
        tokio::time::sleep(SOON).await;
        assert_eq!(world.effects.dead_letters().len(), 10_000, "nothing was done yet");

        let began = tokio::time::Instant::now();
        let paced = redrive().per_second(1_000);
        assert_eq!(paced.run(&world.effects, &LetterFilter::all()).await.expect("run"), expected);
        while !world.effects.dead_letters().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(9), "a thousand a second, not all in {took:?}");
        assert_eq!(world.orders(), ["o-1", "o-2"], "round {round}");
    }
    assert_eq!(shop.calls.load(Ordering::SeqCst), 2, "one call of a handler for each command");
    stock.shutdown().await.expect("an orderly end");
}
