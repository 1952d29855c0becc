//! Effects, replies and facts: each once, none lost, in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use saga_core::machine::{Operation, OperatorAction};
use saga_core::message::{Envelope, Kind};
use saga_core::transport::{Received, Subscription};
use saga_core::{
    Context, Engine, Fact, Handle, HandleExternal, HandlerResult, IdempotencyKey, Json,
    MemoryStore, MemoryTransport, Message, MessageType, Participant, ParticipantName, Relay, Reply,
    Saga, Status, Step, StepName, Subscriber as _, Transport as _,
};
use saga_testkit::{Faults, Faulty, Moment, Operation as Call};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::strict::Strict;
use crate::support::{
    Authorize, BANK, Capture, Conn, Done, Order, Reserve, SHOP, STOCK, Shop, Void, ended, engine,
    key, order, place, stock,
};
use crate::{database, one_step, reserve, send, to_stock, until};

/// A bank that takes the money, and whose answer is lost.
struct TimesOut;

impl HandleExternal<Authorize> for TimesOut {
    async fn call(&self, _: Authorize, _: IdempotencyKey) -> HandlerResult<Done> {
        Err("timed out".into())
    }
}

/// F03, I8.
#[tokio::test]
async fn a_call_with_an_unknown_end_is_undone_by_a_handler_on_the_database() {
    let (transport, db, shop) = (MemoryTransport::new(), database(), Shop::default());
    let _stock = stock(&shop).start(db.clone(), transport.clone());
    let bank = Participant::builder(BANK)
        .handle_external::<Authorize>(TimesOut)
        .handle::<Void>(shop.clone())
        .handle::<Capture>(shop);
    let _bank = bank.build().expect("sound").start(db.clone(), transport.clone());
    let engine = engine(MemoryStore::new(), &transport);
    assert_eq!(place(&engine, "o-1", "").await, Status::Compensated);
    let effects = db.read(Clone::clone);
    assert!(effects.contains(&"void o-1".into()), "the call was never undone: {effects:?}");
}

/// A fact that handlers of the stock tell.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    order: String,
}

impl Message for Taken {
    const TYPE: MessageType = MessageType::new("Taken");
    type Codec = Json;
}

impl Fact for Taken {
    const SOURCE: ParticipantName = STOCK;
}

/// Tells a fact about each reservation, all under one key.
struct Tells;

impl Handle<Reserve, Conn> for Tells {
    async fn handle(&self, command: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        cx.publish(&Taken { order: command.order }, "item-1")?;
        Ok(Reply::succeeded(Done {}))
    }
}

fn telling_stock() -> Participant<Conn> {
    Participant::builder(STOCK).handle::<Reserve>(Tells).build().expect("sound")
}

/// Reads what the stock tells until a fact about `last` comes, for a bounded time.
async fn facts_until(transport: &MemoryTransport, last: &str) -> Vec<String> {
    transport.ensure_topics(&[STOCK.events()]).await.expect("topics");
    let subscription =
        Subscription { group: ParticipantName::new("reader"), topics: vec![STOCK.events()] };
    let mut reader = transport.subscriber(subscription).await.expect("a subscriber");
    let mut facts = Vec::new();
    let read = async {
        while facts.last().is_none_or(|fact| fact != last) {
            let Received::Deliveries(deliveries) = reader.receive(100).await.expect("received")
            else {
                continue;
            };
            for delivery in deliveries {
                let envelope = Envelope::decode(delivery.value).expect("an envelope");
                if matches!(envelope.kind, Kind::Fact) {
                    let fact = serde_json::from_slice::<Taken>(envelope.payload.as_bytes());
                    facts.push(fact.expect("a fact of the stock").order);
                }
            }
        }
    };
    let _ = timeout(Duration::from_secs(5), read).await;
    facts
}

/// F03, I7.
#[tokio::test(start_paused = true)]
async fn facts_of_one_key_stay_in_order_after_a_commit_with_an_unknown_end() {
    let (transport, faults) = (MemoryTransport::new(), Faults::new());
    faults.fail_at(Call::Record, 1, Moment::After);
    let store = Faulty::new(database(), &faults);
    let _stock = telling_stock().start(store, transport.clone());
    send(&transport, vec![reserve("1", "")]).await;
    until("the commit with the unknown end", || faults.calls(Call::Record) > 0).await;
    send(&transport, vec![reserve("2", ""), reserve("3", "")]).await;
    let facts = facts_until(&transport, "3").await;
    assert_eq!(facts, ["1", "2", "3"], "facts overtook each other");
}

#[tokio::test]
async fn facts_of_local_handlers_without_a_transport_are_published_by_a_relay() {
    let (transport, db) = (MemoryTransport::new(), database());
    transport.ensure_topics(&[STOCK.events()]).await.expect("topics");
    let engine = Engine::builder(SHOP, db.clone()).saga(one_step()).local(telling_stock());
    let engine = engine.start().expect("the parts fit");
    assert_eq!(place(&engine, "o-1", "").await, Status::Completed);
    let _relay = Relay::start(db.clone(), transport.clone());
    assert_eq!(facts_until(&transport, "o-1").await, ["o-1"], "the fact was never published");
    until("the published row is deleted", || db.outbox_len() == 0).await;
}

/// Panics over the first reply that it gets.
#[derive(Default)]
struct PanicsOnce(AtomicBool);

impl Step<Order> for PanicsOnce {
    const NAME: StepName = StepName::new("reserve");
    type Command = Reserve;

    fn command(&self, order: &Order) -> Reserve {
        order.into()
    }

    fn on_reply(&self, _: &mut Order, _: Done) {
        assert!(self.0.swap(true, Ordering::SeqCst), "a bug that is mended later");
    }
}

/// I4, I13.
#[tokio::test]
async fn a_local_effect_whose_reply_is_not_taken_is_rolled_back() {
    let db = database();
    let saga = Saga::<Order>::builder().then(PanicsOnce::default()).build().expect("sound");
    let engine = Engine::builder(SHOP, db.clone()).saga(saga).local(stock(&Shop::default()));
    let engine = engine.start().expect("the parts fit");
    let saga = engine.start(key("o-1"), order("o-1", "")).await.expect("accepted").saga();
    assert_eq!(ended(&engine, saga).await, Status::Parked);
    assert!(db.read(Vec::is_empty), "the effect stayed although its reply was not taken");
    let action = OperatorAction::Retry;
    let retry = Operation { by: "ada".into(), reason: "mended".into(), action };
    engine.operate(saga, retry).await.expect("parked");
    until("the retried effect", || !db.read(Vec::is_empty)).await;
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    assert_eq!(db.read(Clone::clone), ["reserve o-1"], "the effect happened twice");
}

/// F35, F43, I11.
#[tokio::test]
async fn a_deadlock_loses_no_dead_letter() {
    let (transport, store) = (MemoryTransport::new(), Strict::new());
    store.deadlocks.store(1, Ordering::SeqCst);
    send(&transport, vec![to_stock(Bytes::from_static(b"\xff\0"))]).await;
    let _stock = stock(&Shop::default()).start(store.clone(), transport);
    until("the message is set aside", || store.db.dead_letters().len() == 1).await;
    assert_eq!(
        store.deadlocks.load(Ordering::SeqCst),
        0,
        "the first try was the deadlock's victim"
    );
}
