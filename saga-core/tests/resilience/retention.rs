//! What was dropped may not come back, and nothing is dropped that is still needed.

use std::time::Duration;

use saga_core::message::{Envelope, Kind, Outcome};
use saga_core::store::Purge as _;
use saga_core::transport::{Received, Subscription};
use saga_core::{
    Clock as _, HandleExternal, HandlerResult, IdempotencyKey, MemoryStore, MemoryTransport,
    MessageId, Participant, Reply, Retention, RetentionPolicy, Status, Subscriber as _,
    SystemClock, Transport as _,
};
use saga_testkit::ManualClock;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{
    Db, Done, Release, Reserve, SHOP, STOCK, Shop, bank, ended, engine, key, order, place, stock,
};
use crate::{command, database, send, until_done};

const HOUR: Duration = Duration::from_hours(1);

/// The same database, two hours later.
fn two_hours_later(db: &Db) -> Db {
    db.clone().clock(ManualClock::at(SystemClock::new().now() + 2 * HOUR))
}

/// The outcome of the next reply of the stock.
async fn reply(transport: &MemoryTransport) -> Outcome {
    let subscription = Subscription { group: SHOP, topics: vec![STOCK.events()] };
    let mut subscriber = transport.subscriber(subscription).await.expect("a subscriber");
    let replies = async {
        loop {
            let Received::Deliveries(mut replies) =
                subscriber.receive(1).await.expect("the transport works")
            else {
                continue;
            };
            let reply = Envelope::decode(replies.remove(0).value).expect("an envelope");
            let Kind::Reply(headers) = reply.kind else { panic!("the stock tells no facts here") };
            break headers.outcome;
        }
    };
    timeout(Duration::from_secs(5), replies).await.expect("the stock replies")
}

#[tokio::test]
async fn i4b_a_command_whose_record_was_purged_is_not_carried_out_again() {
    let (transport, db, shop) = (MemoryTransport::new(), database(), Shop::default());
    let body = r#"{"order":"o-1","trouble":""}"#;
    let reserve = command(MessageId::now(), "Reserve", None, body);
    send(&transport, vec![reserve.clone()]).await;
    let running = stock(&shop).start(db.clone(), transport.clone());
    until_done(&db, "reserve o-1").await;
    running.shutdown().await.expect("an orderly end");
    let purged = two_hours_later(&db).purge_inbox(HOUR, 10).await.expect("purge");
    assert_eq!(purged, 1, "the record is gone");

    let again = MemoryTransport::new();
    send(&again, vec![reserve]).await;
    let _stock = stock(&shop).start(db.clone(), again.clone());
    let outcome = reply(&again).await;
    let Outcome::FailedPermanently(why) = outcome else { panic!("not refused: {outcome:?}") };
    assert!(why.contains("older than what the inbox remembers"), "{why}");
    assert_eq!(db.read(Clone::clone), ["reserve o-1"], "one command, one effect");
}

#[tokio::test]
async fn a_compensation_whose_record_was_purged_parks_its_saga() {
    let (transport, db, shop) = (MemoryTransport::new(), database(), Shop::default());
    let _stock = stock(&shop).start(db.clone(), transport.clone());
    let engine = engine(MemoryStore::new(), &transport);
    let trouble = order("o-1", "authorize:reject");
    let started = engine.start(key("o-1"), trouble).await.expect("accepted");
    until_done(&db, "reserve o-1").await;
    two_hours_later(&db).purge_inbox(HOUR, 10).await.expect("purge");

    let _bank = bank(&shop).start(database(), transport.clone());
    assert_eq!(ended(&engine, started.saga()).await, Status::Parked, "not: nothing to undo");
    let view = engine.inspect(started.saga()).await.expect("inspect").expect("it is there");
    let why = format!("{:?}", view.failure());
    assert!(why.contains("older than what the inbox remembers"), "{why}");
    assert_eq!(db.read(Clone::clone), ["reserve o-1"], "what nobody decided stays as it is");
}

/// Undoes whatever it is asked to.
struct Obliging;

impl HandleExternal<Release> for Obliging {
    async fn call(&self, _: Release, _: IdempotencyKey) -> HandlerResult<Done> {
        Ok(Reply::succeeded(Done {}))
    }
}

/// Makes the id of a message that is sent in two hours.
fn id_in_two_hours() -> MessageId {
    let micros = (SystemClock::new().now() + 2 * HOUR).as_micros();
    let millis = u64::try_from(micros / 1_000).expect("it is after 1970");
    MessageId(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, millis / 1_000, 0)))
}

/// F34, I12: a sound one is as old as what it compensates.
#[tokio::test]
async fn a_forged_compensation_of_what_is_forgotten_holds_up_no_sound_command() {
    let (transport, db, shop) = (MemoryTransport::new(), database(), Shop::default());
    let forgotten = MessageId::now();
    two_hours_later(&db).purge_inbox(HOUR, 10).await.expect("purge");
    let body = r#"{"order":"o-1","trouble":""}"#;
    let forged = command(id_in_two_hours(), "Release", Some(forgotten), body);
    send(&transport, vec![forged, command(id_in_two_hours(), "Reserve", None, body)]).await;
    let stock = Participant::builder(STOCK).handle::<Reserve>(shop);
    let stock = stock.handle_external::<Release>(Obliging).build().expect("sound");
    let _running = stock.start(db.clone(), transport.clone());
    until_done(&db, "reserve o-1").await;
    let outcome = reply(&transport).await;
    let Outcome::FailedPermanently(why) = outcome else { panic!("not refused: {outcome:?}") };
    assert!(why.contains("older than what the inbox remembers"), "{why}");
}

#[tokio::test]
async fn retention_drops_what_ended_and_keeps_what_did_not() {
    let (transport, db, shop) = (MemoryTransport::new(), database(), Shop::default());
    let _stock = stock(&shop).start(db.clone(), transport.clone());
    let _bank = bank(&shop).start(db.clone(), transport.clone());
    let engine = engine(db.clone(), &transport);
    assert_eq!(place(&engine, "o-1", "").await, Status::Completed);
    assert_eq!(place(&engine, "o-2", "ship:terminal").await, Status::Parked);
    let first = start_again(&engine, "o-1").await;
    let parked = start_again(&engine, "o-2").await;

    let retention = Retention::start(
        two_hours_later(&db),
        RetentionPolicy::keep_all().ended_sagas(HOUR).inbox(HOUR),
    );
    let gone = async {
        while engine.inspect(first).await.expect("inspect").is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("the ended saga is dropped");
    retention.shutdown().await.expect("an orderly end");
    assert_eq!(engine.history(first).await.expect("history"), [], "with its history");
    assert_eq!(start_again(&engine, "o-2").await, parked, "a parked saga keeps its key");
    assert_ne!(start_again(&engine, "o-1").await, first, "the key of a dropped one is free");
}

async fn start_again(engine: &saga_core::Engine, name: &str) -> saga_core::SagaId {
    let key = IdempotencyKey::new(name).expect("a short key");
    engine.start(key, order(name, "")).await.expect("accepted").saga()
}
