//! The first step inside the engine is committed with the start: once, or not at all.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use saga_core::machine::HistoryKind;
use saga_core::{Engine, SagaStore, Status};
use saga_testkit::{Faults, Faulty, Moment, Operation};

use crate::support::{Conn, SHOP, Shop, bank, ended, key, order, place, saga, stock};
use crate::{database, one_step};

/// An engine that carries out everything itself.
fn shop(store: impl SagaStore<Connection = Conn>, shop: &Shop) -> Engine {
    let engine = Engine::builder(SHOP, store).saga(saga()).local(stock(shop)).local(bank(shop));
    engine.start().expect("the parts fit")
}

#[tokio::test]
async fn a_saga_of_one_step_is_one_commit() {
    let faults = Faults::new();
    let store = Faulty::new(database(), &faults);
    let engine = Engine::builder(SHOP, store).saga(one_step()).local(stock(&Shop::default()));
    let engine = engine.start().expect("the parts fit");
    let saga = engine.start(key("o-1"), order("o-1", "")).await.expect("accepted").saga();
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    assert_eq!(faults.calls(Operation::Write), 1, "the start and the only step are one commit");
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
