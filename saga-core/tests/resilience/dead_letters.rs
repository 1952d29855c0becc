//! A message is set aside and let go in one step, or it comes again.

use bytes::Bytes;
use saga_core::message::{Kind, Outcome};
use saga_core::store::DeadLetter;
use saga_core::transport::{Received, Record, Subscription};
use saga_core::{
    Envelope, MemoryStore, MemoryTransport, ParticipantName, Status, Subscriber as _,
    Transport as _,
};
use saga_testkit::{Faults, Faulty, Moment, Operation};

use crate::support::{STOCK, Shop, engine, key, order, participants, place, stock};
use crate::{database, reserve, send, to_stock, until, until_done};

const POISON: &[u8] = b"\xff\0";

fn poison() -> Record {
    to_stock(Bytes::from_static(POISON))
}

fn assert_kept_once(letters: &[DeadLetter], of: &str) {
    let values: Vec<_> = letters.iter().map(|letter| &letter.value[..]).collect();
    assert_eq!(values, [POISON], "{of}");
}

#[tokio::test]
async fn f35_a_participant_that_cannot_write_a_dead_letter_tries_again() {
    for moment in [Moment::Before, Moment::After] {
        let (transport, db, faults) = (MemoryTransport::new(), database(), Faults::new());
        faults.fail_at(Operation::Write, 1, moment);
        send(&transport, vec![poison(), reserve("o-1", "")]).await;
        let stock = stock(&Shop::default()).start(Faulty::new(db.clone(), &faults), transport);
        until_done(&db, "reserve o-1").await;
        assert_kept_once(&db.dead_letters(), &format!("{moment:?}"));
        stock.shutdown().await.expect("an orderly end");
    }
}

#[tokio::test]
async fn f35_a_participant_that_dies_over_a_dead_letter_leaves_it_to_the_next() {
    for moment in [Moment::Before, Moment::After] {
        let (transport, db, faults) = (MemoryTransport::new(), database(), Faults::new());
        faults.kill_at(Operation::Write, 1, moment);
        send(&transport, vec![poison(), reserve("o-1", "")]).await;
        let store = Faulty::new(db.clone(), &faults);
        let first = stock(&Shop::default()).start(store, transport.clone());
        faults.killed().await;
        drop(first);
        faults.revive();
        let second = stock(&Shop::default()).start(db.clone(), transport);
        until_done(&db, "reserve o-1").await;
        assert_kept_once(&db.dead_letters(), &format!("{moment:?}"));
        second.shutdown().await.expect("an orderly end");
    }
}

#[tokio::test]
async fn f35_an_engine_that_cannot_write_a_dead_letter_tries_again() {
    for moment in [Moment::Before, Moment::After] {
        let (transport, sagas, faults) =
            (MemoryTransport::new(), MemoryStore::new(), Faults::new());
        faults.fail_at(Operation::Write, 1, moment);
        let topic = STOCK.events();
        transport.ensure_topics(std::slice::from_ref(&topic)).await.expect("topics");
        send(&transport, vec![Record { topic, ..poison() }]).await;
        let engine = engine(Faulty::new(sagas.clone(), &faults), &transport);
        until("the message is set aside", || !sagas.dead_letters().is_empty()).await;
        let _participants = participants(&Shop::default(), &database(), &transport);
        assert_eq!(place(&engine, "o-1", "").await, Status::Completed);
        assert_kept_once(&sagas.dead_letters(), &format!("{moment:?}"));
        engine.shutdown().await.expect("an orderly end");
    }
}

/// F32: a reply that comes after the end, and says something else.
#[tokio::test]
async fn f32_what_is_said_after_the_end_changes_nothing() {
    let (transport, sagas) = (MemoryTransport::new(), MemoryStore::new());
    let engine = engine(sagas.clone(), &transport);
    let _participants = participants(&Shop::default(), &database(), &transport);
    let started = engine.start(key("o-1"), order("o-1", "")).await.expect("accepted");
    assert_eq!(started.outcome().await.expect("an end"), Status::Completed);
    let before = engine.history(started.saga()).await.expect("history");

    // Every reply once more, as a refusal and as a failure.
    let subscription =
        Subscription { group: ParticipantName::new("eavesdropper"), topics: vec![STOCK.events()] };
    let mut subscriber = transport.subscriber(subscription).await.expect("joined");
    let mut late = Vec::new();
    while late.len() < 4 {
        let Received::Deliveries(replies) = subscriber.receive(10).await.expect("received") else {
            continue;
        };
        for reply in replies {
            for outcome in
                [Outcome::Rejected("late".into()), Outcome::FailedPermanently("late".into())]
            {
                let mut envelope = Envelope::decode(reply.value.clone()).expect("an envelope");
                let Kind::Reply(headers) = &mut envelope.kind else { panic!("a reply") };
                headers.outcome = outcome;
                let partition = Some(reply.position.partition);
                late.push(Record {
                    topic: STOCK.events(),
                    partition,
                    ..to_stock(envelope.encode())
                });
            }
        }
    }
    // What comes behind them in the same partitions tells that they were taken.
    let poison = |it: &Record| Record { value: Bytes::from_static(POISON), ..it.clone() };
    let behind: Vec<_> = late.iter().map(poison).collect();
    let count = behind.len();
    send(&transport, late.into_iter().chain(behind).collect()).await;
    until("what is behind them is set aside", || sagas.dead_letters().len() == count).await;
    assert_eq!(engine.history(started.saga()).await.expect("history"), before);
    assert_eq!(engine.outcome(started.saga()).await.expect("an end"), Status::Completed);
}
