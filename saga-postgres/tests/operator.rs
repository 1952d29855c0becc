//! What a person does to sagas and letters takes effect once and is on record, or is refused; and what
//! becomes of sagas when their definition changes.

#[path = "support/acts.rs"]
mod acts;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/orders.rs"]
mod orders;
mod support;
#[path = "support/versions.rs"]
mod versions;

use std::time::Duration;

use saga_core::machine::{HistoryKind, Operation, OperatorAction};
use saga_core::store::{DeadLetters as _, LetterAction, LetterFilter, LetterOperation, StoreError};
use saga_core::{Engine, Error, RunningParticipant, Saga, SagaId, Status};
use saga_testkit::{Faults, Faulty, Moment, Operation as Call};

use acts::{ALL, Act, RETRY, SKIP, act, cases, try_to, unsafe_acts};
use letters::{discard, letters, letters_are, on_record, redrive, run};
use orders::Trouble::{FailsForGood, FailsForNow};
use orders::{
    Order, Shop, close, ended, first, history, inspect, second, stands_still, start, until,
};
use versions::{FIRST, ended_on, first_today, under_way_on_version_1};

/// I1, I2, I4, F62: the second is refused or ignored, at once and after the end, and changes nothing.
#[tokio::test]
async fn an_action_that_is_asked_for_twice_is_made_once_and_on_record() {
    let shop = Shop::new().await;
    let (stock, engine) = shop.open(false);
    for case in cases() {
        let saga = case.stands_still(&shop, &engine).await;
        let decided = case.act.decided(&engine, saga).await;
        let (once, twice) =
            tokio::join!(act(&engine, saga, &decided), act(&engine, saga, &decided));
        assert_eq!((once, twice), (Ok(()), case.again), "{}", case.order);
        case.ends(&shop, &engine, saga).await;
        let stored = shop.stored(saga, case.order).await;
        assert_eq!(act(&engine, saga, &decided).await, case.after, "{}", case.order);
        assert_eq!(shop.stored(saga, case.order).await, stored, "{}", case.order);
        let receipt = inspect(&engine, saga).await.data::<Order>().map(|it| it.receipt.clone());
        let by_hand = receipt.as_deref() == Some("by hand");
        assert_eq!(by_hand, case.order == "resolve", "{}: {receipt:?}", case.order);
    }
    close(engine, stock).await;
}

/// Starts an order that is to be charged again in an hour.
async fn waits_for_a_retry(shop: &Shop, engine: &Engine) -> SagaId {
    shop.goes_wrong("o-1", "charge", FailsForNow);
    let saga = start(engine, "o-1", false).await;
    stands_still(engine, saga).await;
    shop.mend();
    saga
}

/// Counts how often its timers were moved, and how often it was not answered in time.
async fn moved_and_timed_out(engine: &Engine, saga: SagaId) -> (usize, usize) {
    let history = history(engine, saga).await;
    let count = |kind| history.iter().filter(|entry| entry.kind == kind).count();
    (count(HistoryKind::Operator), count(HistoryKind::TimedOut))
}

/// I4: the second is not taken for the timer that runs then, the deadline of the attempt that the first began.
#[tokio::test]
async fn a_retry_that_is_brought_forward_twice_takes_effect_once() {
    let shop = Shop::new().await;
    let (stock, engine) = shop.open(false);
    let saga = waits_for_a_retry(&shop, &engine).await;
    let fire = Act::Fire("charge").decided(&engine, saga).await;
    let both = tokio::join!(act(&engine, saga, &fire), act(&engine, saga, &fire));
    assert_eq!(both, (Ok(()), Err("its timer has fired or was moved meanwhile; look again")));
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    assert_eq!(shop.effects("o-1").await, ALL);
    assert_eq!(moved_and_timed_out(&engine, saga).await, (1, 0));
    close(engine, stock).await;
}

/// I1: the second, of somebody who saw the same, does not skip what the saga has parked at since.
#[tokio::test]
async fn a_skip_of_what_was_looked_at_skips_nothing_else() {
    let shop = Shop::new().await;
    let (stock, engine) = shop.open(false);
    for command in ["check", "charge"] {
        shop.goes_wrong("o-1", command, FailsForGood);
    }
    let saga = start(&engine, "o-1", false).await;
    stands_still(&engine, saga).await;
    let seen = inspect(&engine, saga).await;
    let skip = || async {
        let (by, reason) = ("ada".to_owned(), "not needed".to_owned());
        let skip = Operation { by, reason, action: OperatorAction::Skip };
        engine.operate_on(&seen, skip).await
    };
    let is_refused = |answer: Result<(), Error>| {
        let changed = "it has changed since it was looked at; look again";
        assert!(matches!(answer, Err(Error::Refused { reason, .. }) if reason == changed));
    };
    let (once, twice) = tokio::join!(skip(), skip());
    once.expect("it is as it was seen");
    is_refused(twice);
    let parked_at_the_charge = || async {
        let failure = inspect(&engine, saga).await.failure().and_then(|it| it.step.clone());
        failure.is_some_and(|step| step.as_str() == "charge")
    };
    until("it is parked again", parked_at_the_charge).await;
    is_refused(skip().await);
    assert!(parked_at_the_charge().await, "nothing was done");
    assert_eq!(act(&engine, saga, &SKIP).await, Ok(()));
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    assert_eq!(shop.effects("o-1").await, ["reserve", "ship"]);
    close(engine, stock).await;
}

/// I1, I2.
#[tokio::test]
async fn what_is_not_safe_is_refused_with_the_reason_and_changes_nothing() {
    let shop = Shop::new().await;
    let (stock, engine) = shop.open(false);
    for (order, troubles, acts) in unsafe_acts() {
        for &(command, trouble) in troubles {
            shop.goes_wrong(order, command, trouble);
        }
        let saga = start(&engine, order, order == "pause").await;
        match order {
            "ended" => assert_eq!(ended(&engine, saga).await, Status::Completed),
            _ => stands_still(&engine, saga).await,
        }
        let stored = shop.stored(saga, order).await;
        for (unsafe_act, reason) in acts {
            let answer = act(&engine, saga, &unsafe_act).await;
            assert_eq!(answer, Err(reason), "{order}: {unsafe_act:?}");
            assert_eq!(shop.stored(saga, order).await, stored, "{order}: {unsafe_act:?}");
        }
    }
    for act in [RETRY, Act::Fire("ship"), Act::Cancel] {
        let to_nobody = try_to(&engine, SagaId::now(), &act, "ada").await;
        assert!(matches!(to_nobody, Err(Error::UnknownSaga { .. })), "{act:?}: {to_nobody:?}");
    }
    close(engine, stock).await;
}

/// I1, I10, F71.
#[tokio::test]
async fn of_two_operators_at_two_engines_one_has_the_say() {
    let shop = Shop::new().await;
    let stock = shop.stock();
    let engines = [(); 2].map(|()| shop.engine([first(Saga::builder())]));
    let [one, other] = &engines;
    for number in 0..20 {
        let order = format!("o-{number}");
        shop.goes_wrong(&order, "check", FailsForGood);
        let saga = start(one, &order, false).await;
        stands_still(one, saga).await;
        shop.mend();
        let (retried, skipped) =
            tokio::join!(try_to(one, saga, &RETRY, "ada"), try_to(other, saga, &SKIP, "bob"));
        let (entry, refused) = match (retried, skipped) {
            (Ok(()), Err(refused)) => ("retry by ada: the cause is known", refused),
            (Err(refused), Ok(())) => ("skip by bob: the cause is known", refused),
            both => panic!("{order}: {both:?}"),
        };
        assert!(matches!(refused, Error::Refused { .. }), "{order}: {refused:?}");
        assert_eq!(ended(one, saga).await, Status::Completed, "{order}");
        let mut entries = history(one, saga).await;
        entries.retain(|it| it.kind == HistoryKind::Operator);
        let entries: Vec<_> = entries.iter().map(|it| &*it.detail).collect();
        assert_eq!(entries, [entry], "{order}");
        let mut effects = ALL.to_vec();
        effects.retain(|it| *it != "check" || entry.starts_with("retry"));
        assert_eq!(shop.effects(&order).await, effects, "{order}");
    }
    for engine in engines {
        engine.shutdown().await.expect("an orderly end");
    }
    stock.shutdown().await.expect("an orderly end");
}

/// I1, I13.
#[tokio::test]
async fn an_action_whose_commit_is_refused_leaves_neither_an_effect_nor_an_entry() {
    for is_inside in [false, true] {
        let shop = Shop::new().await;
        let (stock, engine) = shop.open(is_inside);
        for case in cases() {
            let order = case.order;
            let saga = case.stands_still(&shop, &engine).await;
            let stored = shop.stored(saga, order).await;
            shop.commits_fail(saga, "P0001", i64::MAX).await;
            let failed = try_to(&engine, saga, &case.act, "ada").await;
            let Err(Error::Store(StoreError::Refused { .. })) = failed else {
                panic!("{order}: {failed:?}")
            };
            // Had a message of it been sent, it would be handled before those of a later order.
            let later = start(&engine, &format!("after-{order}"), false).await;
            assert_eq!(ended(&engine, later).await, Status::Completed, "{order}");
            assert_eq!(shop.stored(saga, order).await, stored, "{order}");
            shop.commits_work().await;
            assert_eq!(act(&engine, saga, &case.act).await, Ok(()), "{order}");
            case.ends(&shop, &engine, saga).await;
        }
        close(engine, stock).await;
    }
}

/// I1, I4, F43, F46: the operator waits, and is told that it is done.
#[tokio::test]
async fn an_action_whose_commit_fails_for_a_while_is_made_once() {
    for (is_inside, code) in [(false, "53100"), (true, "53100"), (false, "40001"), (true, "40P01")]
    {
        let shop = Shop::new().await;
        let (stock, engine) = shop.open(is_inside);
        for case in cases() {
            let saga = case.stands_still(&shop, &engine).await;
            shop.commits_fail(saga, code, 2).await;
            assert_eq!(act(&engine, saga, &case.act).await, Ok(()), "{code}: {}", case.order);
            case.ends(&shop, &engine, saga).await;
            assert!(shop.commits_work().await >= 3, "{code}: {}: it failed twice", case.order);
        }
        close(engine, stock).await;
    }
}

/// Opens a shop whose engine can lose the answer to a commit that was made.
async fn open_to_doubt(is_inside: bool) -> (Shop, RunningParticipant, Engine, Faults) {
    let (shop, faults) = (Shop::new().await, Faults::new());
    let store = Faulty::new(shop.fresh.store.clone(), &faults);
    let (stock, engine) = shop.open_over(store, is_inside);
    (shop, stock, engine, faults)
}

/// Does it, while the answer to its commit is lost.
async fn act_in_doubt(
    faults: &Faults,
    engine: &Engine,
    saga: SagaId,
    what: &Act,
) -> Result<(), &'static str> {
    let looked = faults.calls(Call::History);
    faults.fail_at(Call::Commit, faults.calls(Call::Commit) + 1, Moment::After);
    let answer = act(engine, saga, what).await;
    let has_looked = faults.calls(Call::History) > looked;
    assert_eq!(has_looked, !matches!(what, Act::Cancel), "{what:?}: whether it was made");
    answer
}

/// I1, I4, F03: the commit was made and seemed to fail; the operator is told that it is done.
#[tokio::test]
async fn an_action_whose_commit_has_an_unknown_end_is_made_once() {
    for is_inside in [false, true] {
        let (shop, stock, engine, faults) = open_to_doubt(is_inside).await;
        for case in cases() {
            let saga = case.stands_still(&shop, &engine).await;
            let answer = act_in_doubt(&faults, &engine, saga, &case.act).await;
            case.ends(&shop, &engine, saga).await;
            assert_eq!(answer, Ok(()), "{}", case.order);
        }
        close(engine, stock).await;
    }
}

/// I1, F03: it does not fire once more, which would use up an attempt.
#[tokio::test]
async fn a_timer_that_is_moved_in_a_commit_with_an_unknown_end_fires_once() {
    let (shop, stock, engine, faults) = open_to_doubt(false).await;
    let saga = waits_for_a_retry(&shop, &engine).await;
    assert_eq!(act_in_doubt(&faults, &engine, saga, &Act::Fire("charge")).await, Ok(()));
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    assert_eq!(moved_and_timed_out(&engine, saga).await, (1, 0));
    close(engine, stock).await;
}

/// Lets a stock that stops then set aside what it was told of an order.
async fn set_one_aside(shop: &Shop) {
    let stock = shop.stock();
    shop.goes_wrong("o-1", "told", FailsForGood);
    shop.tell(&["o-1"]).await;
    letters_are(shop, 1).await;
    stock.shutdown().await.expect("an orderly end");
}

/// F36, I4, I11.
#[tokio::test]
async fn a_letter_that_is_redriven_twice_takes_effect_once() {
    let shop = Shop::new().await;
    set_one_aside(&shop).await;
    shop.mend();
    let all = LetterFilter::all();
    let id = letters(&shop).await[0].id;
    let entry = (id, "redrive", "ada: mended".to_owned());
    // Nobody takes it yet: the second only moves its time.
    for asked in 1..=2 {
        assert_eq!(run(&shop, redrive(), &all).await, 1);
        assert_eq!(on_record(&shop).await, vec![entry.clone(); asked]);
    }
    let stock = shop.stock();
    letters_are(&shop, 0).await;
    assert_eq!(shop.effects("o-1").await, ["told"]);
    for task in [redrive(), discard()] {
        assert_eq!(run(&shop, task, &LetterFilter::one(id)).await, 0, "it is gone");
    }
    assert_eq!(on_record(&shop).await, vec![entry; 2], "nothing was done");
    shop.tell(&["o-2"]).await;
    until("the next one", || async { shop.effects("o-2").await == ["told"] }).await;
    assert_eq!(shop.effects("o-1").await, ["told"]);
    stock.shutdown().await.expect("an orderly end");
}

/// F36, F77, I11.
#[tokio::test]
async fn a_letter_that_is_discarded_twice_is_gone_once_and_what_waits_behind_it_goes_on() {
    let shop = Shop::new().await;
    let stock = shop.stock();
    shop.goes_wrong("o-1", "told", FailsForGood);
    shop.tell(&["o-1", "o-2"]).await;
    letters_are(&shop, 2).await;
    shop.mend();
    let broken = letters(&shop).await.into_iter().find(|it| !it.waits).expect("one is broken");
    let broken = LetterFilter::one(broken.id);
    for (task, letters) in [(discard(), 1), (discard(), 0), (redrive(), 0)] {
        assert_eq!(run(&shop, task, &broken).await, letters);
    }
    let id = broken.id.expect("it is named");
    assert_eq!(on_record(&shop).await, [(id, "discard", "ada: mended".to_owned())]);
    letters_are(&shop, 0).await;
    assert_eq!(shop.effects("o-2").await, ["told"]);
    assert!(shop.effects("o-1").await.is_empty(), "it was given up");
    stock.shutdown().await.expect("an orderly end");
}

/// F36, I11: nothing is done either to a letter of which nobody knows who would take it back.
#[tokio::test]
async fn what_is_done_to_a_letter_and_its_entry_are_one_commit() {
    let shop = Shop::new().await;
    set_one_aside(&shop).await;
    let before = letters(&shop).await;
    let ids = [(before[0].id, Duration::ZERO)];
    for action in [LetterAction::Redrive, LetterAction::Discard] {
        let fail = "create function {schema}.fail() returns trigger language plpgsql as \
                    $$ begin raise exception 'not now'; end $$; \
                    create trigger fail after insert on {schema}.dead_letter_operation \
                    for each row execute function {schema}.fail()";
        shop.fresh.execute(fail).await;
        let (by, reason) = ("ada".to_owned(), "mended".to_owned());
        let operation = LetterOperation { by, reason, action };
        let failed = shop.fresh.store.operate(&operation, &ids).await;
        assert!(matches!(failed, Err(StoreError::Refused { .. })), "{action:?}: {failed:?}");
        assert_eq!(letters(&shop).await, before, "{action:?}");
        assert!(on_record(&shop).await.is_empty(), "{action:?}");
        shop.fresh.execute("drop function {schema}.fail() cascade").await;
    }
    let forget = "update {schema}.dead_letter set consumer = 'unknown'";
    shop.fresh.execute(forget).await;
    for (task, done) in [(redrive(), 0), (discard(), 1)] {
        assert_eq!(run(&shop, task, &LetterFilter::all()).await, done);
        assert_eq!((letters(&shop).await.len(), on_record(&shop).await.len()), (1 - done, done));
    }
}

/// F68, I17.
#[tokio::test]
async fn a_running_saga_ends_on_its_version_beside_a_newer_one() {
    let shop = Shop::new().await;
    let [fresh, half] = under_way_on_version_1(&shop).await;
    let engine = shop.engine([first_today(), second()]);
    assert!(engine.unknown_definitions().await.expect("asked").is_empty());
    let stock = shop.stock();
    assert_eq!(act(&engine, half, &Act::Fire("charge")).await, Ok(()));
    for saga in [fresh, half] {
        ended_on(&shop, &engine, saga, 1, FIRST).await;
    }
    let new = start(&engine, "new", false).await;
    ended_on(&shop, &engine, new, 2, &["check", "hold", "charge", "bill", "ship"]).await;
    close(engine, stock).await;
}

/// F68, I17: it parks where it stands once something happens to it, and goes on where its version is known.
#[tokio::test]
async fn a_saga_of_a_version_that_is_gone_is_listed_parks_and_ends_once_it_is_back() {
    let shop = Shop::new().await;
    let [fresh, half] = under_way_on_version_1(&shop).await;
    let engine = shop.engine([second()]);
    let unknown = engine.unknown_definitions().await.expect("asked");
    let [unknown] = &unknown[..] else { panic!("{unknown:?}") };
    let fingerprint = first_today().definition().fingerprint();
    let found = (unknown.version, unknown.sagas, unknown.fingerprint);
    assert_eq!(found, (1, 2, fingerprint));
    let stock = shop.stock();
    assert_eq!(ended(&engine, fresh).await, Status::Parked);
    let nobody_knows = Err("its definition is not registered here");
    assert_eq!(act(&engine, half, &Act::Fire("charge")).await, nobody_knows);
    for saga in [fresh, half] {
        assert_eq!(ended(&engine, saga).await, Status::Parked);
        let history = history(&engine, saga).await;
        let last = history.last().expect("it parked");
        let why = "unknown-definition: version 1 of `order` is not registered";
        assert_eq!((last.kind, last.detail.as_str()), (HistoryKind::Parked, why));
        assert_eq!(act(&engine, saga, &RETRY).await, nobody_knows);
    }
    assert!(engine.unknown_definitions().await.expect("asked").is_empty(), "all are at rest");
    engine.shutdown().await.expect("an orderly end");

    let engine = shop.engine([first_today(), second()]);
    for saga in [fresh, half] {
        let skipped = act(&engine, saga, &SKIP).await;
        assert_eq!(skipped, Err("it is not parked at a step; retry it"));
        assert_eq!(act(&engine, saga, &RETRY).await, Ok(()));
    }
    assert_eq!(act(&engine, half, &Act::Fire("charge")).await, Ok(()));
    for saga in [fresh, half] {
        ended_on(&shop, &engine, saga, 1, FIRST).await;
    }
    close(engine, stock).await;
}
