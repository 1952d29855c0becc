//! Steps inside the engine are committed with the start, and with one another: once, or not at all.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use saga_core::machine::HistoryKind;
use saga_core::{Engine, Saga, SagaStore, Status, Step, StepName};
use saga_testkit::{Faults, Faulty, Moment, Operation};

use crate::database;
use crate::support::{
    Conn, Order, Reserve, SHOP, Shop, bank, ended, key, order, place, saga, stock,
};

/// An engine that carries out everything itself.
fn shop(store: impl SagaStore<Connection = Conn>, shop: &Shop) -> Engine {
    let engine = Engine::builder(SHOP, store).saga(saga()).local(stock(shop)).local(bank(shop));
    engine.start().expect("the parts fit")
}

#[tokio::test]
async fn a_saga_of_few_steps_is_one_commit() {
    for (trouble, end) in [("", Status::Completed), ("capture:reject", Status::Compensated)] {
        let (db, faults) = (database(), Faults::new());
        let engine = shop(Faulty::new(db.clone(), &faults), &Shop::default());
        let saga = engine.start(key("o-1"), order("o-1", trouble)).await.expect("accepted").saga();
        assert_eq!(ended(&engine, saga).await, end);
        assert_eq!(faults.calls(Operation::Write), 1, "all steps {trouble} are one commit");
        let history = engine.history(saga).await.expect("a history");
        let succeeded = history.iter().filter(|it| it.kind == HistoryKind::Succeeded).count();
        let expected = if trouble.is_empty() { 4 } else { 2 };
        assert_eq!(succeeded, expected, "each step is on record: {history:?}");
    }
}

/// One of many steps.
struct Numbered<const N: usize>;

impl<const N: usize> Step<Order> for Numbered<N> {
    const NAME: StepName =
        StepName::new(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][N]);
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        order.into()
    }
}

#[tokio::test]
async fn a_commit_holds_eight_steps_of_a_saga_at_most() {
    let long = Saga::<Order>::builder()
        .then(Numbered::<0>)
        .then(Numbered::<1>)
        .then(Numbered::<2>)
        .then(Numbered::<3>)
        .then(Numbered::<4>)
        .then(Numbered::<5>)
        .then(Numbered::<6>)
        .then(Numbered::<7>)
        .then(Numbered::<8>);
    let (db, faults) = (database(), Faults::new());
    let store = Faulty::new(db.clone(), &faults);
    let engine = Engine::builder(SHOP, store).saga(long.build().expect("a sound saga"));
    let engine = engine.local(stock(&Shop::default())).start().expect("the parts fit");
    let saga = engine.start(key("o-1"), order("o-1", "")).await.expect("accepted").saga();
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    assert_eq!(faults.calls(Operation::Write), 2, "the ninth step has a commit of its own");
    assert_eq!(db.read(Vec::len), 9);
}

#[tokio::test]
async fn a_later_step_that_fails_leaves_the_earlier_ones_and_the_other_sagas_alone() {
    let db = database();
    let engine = shop(db.clone(), &Shop::default());
    let names: Vec<_> = (0..20).map(|number| format!("o-{number}")).collect();
    let ends = join_all(names.iter().map(|name| {
        let trouble = if name == "o-7" { "ship:terminal" } else { "" };
        place(&engine, name, trouble)
    }));
    for (name, end) in names.iter().zip(ends.await) {
        let expected = if name == "o-7" { Status::Parked } else { Status::Completed };
        assert_eq!(end, expected, "{name}");
        for step in ["reserve", "authorize", "capture"] {
            let effect = format!("{step} {name}");
            let done = db.read(|effects| effects.iter().filter(|it| **it == effect).count());
            assert_eq!(done, 1, "{effect}");
        }
    }
}

#[tokio::test]
async fn a_first_step_that_fails_is_asked_as_often_as_its_policy_says() {
    let (db, counted) = (database(), Shop::default());
    let engine = shop(db.clone(), &counted);
    let saga = engine.start(key("o-1"), order("o-1", "reserve:fail")).await.expect("accepted");
    assert_eq!(ended(&engine, saga.saga()).await, Status::Compensated);
    assert_eq!(counted.calls.load(Ordering::SeqCst), 3, "the policy allows three attempts");
    let history = engine.history(saga.saga()).await.expect("a history").into_iter();
    let failed = history.filter(|entry| entry.kind == HistoryKind::AttemptFailed).count();
    assert_eq!(failed, 3, "each attempt is on record");
    assert!(db.read(Vec::is_empty), "a failed step left an effect");
}

#[tokio::test]
async fn a_first_step_that_fails_leaves_the_others_of_its_tick_alone() {
    for trouble in ["reserve:fail", "reserve:panic", "reserve:terminal", "reserve:reject"] {
        let db = database();
        let engine = shop(db.clone(), &Shop::default());
        let names: Vec<_> = (0..20).map(|number| format!("o-{number}")).collect();
        let ends = join_all(names.iter().map(|name| {
            let trouble = if name == "o-7" { trouble } else { "" };
            place(&engine, name, trouble)
        }));
        let ends = ends.await;
        for (name, end) in names.iter().zip(ends) {
            assert_eq!(end == Status::Completed, name != "o-7", "{name} with {trouble}: {end:?}");
            let expected = usize::from(name != "o-7");
            let effect = format!("reserve {name}");
            let done = db.read(|effects| effects.iter().filter(|it| **it == effect).count());
            assert_eq!(done, expected, "{effect} with {trouble}");
        }
    }
}

/// F66, I3, I4.
#[tokio::test]
async fn a_start_that_comes_second_leaves_no_effect() {
    let (db, counted) = (database(), Shop::default());
    let engines = [shop(db.clone(), &counted), shop(db.clone(), &counted)];
    for number in 0..50 {
        let name = format!("o-{number}");
        let started = engines.each_ref().map(|engine| engine.start(key(&name), order(&name, "")));
        let [first, second] = join_all(started).await.try_into().expect("two starts");
        let (first, second) = (first.expect("accepted"), second.expect("accepted"));
        assert_eq!(first.saga(), second.saga(), "one key is one saga");
        assert_eq!(ended(&engines[0], first.saga()).await, Status::Completed);
        let effect = format!("reserve {name}");
        let done = db.read(|effects| effects.iter().filter(|it| **it == effect).count());
        assert_eq!(done, 1, "{effect} by two engines");
    }
}

/// F03, I3, I4.
#[tokio::test]
async fn a_start_with_an_unknown_end_does_its_first_step_once() {
    for moment in [Moment::Before, Moment::After] {
        let (db, faults) = (database(), Faults::new());
        faults.fail_at(Operation::Write, 1, moment);
        let engine = shop(Faulty::new(db.clone(), &faults), &Shop::default());
        assert_eq!(place(&engine, "o-1", "").await, Status::Completed, "failed {moment:?}");
        let effects = db.read(Clone::clone);
        let expected = ["reserve o-1", "authorize o-1", "capture o-1", "ship o-1"];
        assert_eq!(effects, expected, "failed {moment:?}");
    }
}
