//! Facts that a participant handles: each once, in the order of its key, whatever fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use saga_core::message::{Envelope, Kind};
use saga_core::store::{DeadLetter, LetterFilter, Purge as _};
use saga_core::transport::{Received, Record, Subscription};
use saga_core::{
    Clock as _, Codec as _, CorrelationId, DefinitionError, Engine, Error, Fact, FactContext,
    HandleAllFacts, HandleFact, HandlerError, Inbox, Json, LetterTask, MemoryTransport, Message,
    MessageId, MessageType, Participant, ParticipantName, Payload, Publisher as _,
    RunningParticipant, Subscriber as _, SystemClock, Transport as _,
};
use saga_testkit::{Faults, Faulty, ManualClock, Moment, Operation};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::support::{Conn, Db, Effects, OrderPlaced, SHOP};
use crate::{database, until, until_done};

const WEB: ParticipantName = OrderPlaced::SOURCE;
const SUMMARY: ParticipantName = ParticipantName::new("summary");

/// What follows from an order in the summary's own service.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    order: String,
}

impl Message for Counted {
    const TYPE: MessageType = MessageType::new("Counted");
    type Codec = Json;
}

impl Fact for Counted {
    const SOURCE: ParticipantName = SUMMARY;
}

/// Another fact of the same source.
#[derive(Debug, Serialize, Deserialize)]
struct OrderPaid {
    order: String,
}

impl Message for OrderPaid {
    const TYPE: MessageType = MessageType::new("OrderPaid");
    type Codec = Json;
}

impl Fact for OrderPaid {
    const SOURCE: ParticipantName = WEB;
}

/// Notes the facts; those with the trouble `bug` break it until it is mended.
#[derive(Clone, Default)]
struct Notes {
    is_mended: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

impl HandleFact<OrderPlaced, Conn> for Notes {
    async fn handle_fact(
        &self,
        fact: OrderPlaced,
        cx: &mut FactContext<'_, Conn>,
    ) -> Result<(), HandlerError> {
        let calls = self.calls.fetch_add(1, SeqCst);
        let effect = format!("placed {}", fact.order);
        cx.connection().push(effect);
        cx.publish(&Counted { order: fact.order.clone() }, &fact.order)?;
        match &*fact.trouble {
            "bug" if !self.is_mended.load(SeqCst) => Err("a bug".into()),
            "panic" => panic!("the handler panics"),
            "flaky" if calls < 2 => Err("not now".into()),
            "fatal" if !self.is_mended.load(SeqCst) => std::future::pending().await,
            "foreign" => cx.publish(&OrderPaid { order: fact.order }, "o"),
            _ => Ok(()),
        }
    }
}

impl HandleFact<OrderPaid, Conn> for Notes {
    async fn handle_fact(
        &self,
        fact: OrderPaid,
        cx: &mut FactContext<'_, Conn>,
    ) -> Result<(), HandlerError> {
        cx.connection().push(format!("paid {}", fact.order));
        Ok(())
    }
}

/// Notes many facts at once, and refuses them all if one is poison.
#[derive(Clone, Default)]
struct Batches {
    most: Arc<AtomicU32>,
}

impl HandleAllFacts<OrderPaid, Conn> for Batches {
    async fn handle_all_facts(
        &self,
        facts: Vec<OrderPaid>,
        cx: &mut FactContext<'_, Conn>,
    ) -> Result<(), HandlerError> {
        self.most.fetch_max(u32::try_from(facts.len()).expect("few"), SeqCst);
        for fact in &facts {
            cx.connection().push(format!("paid {}", fact.order));
            cx.publish(&Counted { order: fact.order.clone() }, &fact.order)?;
        }
        match facts.iter().any(|it| it.order == "poison") {
            true => Err(HandlerError::terminal("a bug")),
            false => Ok(()),
        }
    }
}

fn named(name: ParticipantName, notes: &Notes) -> Participant<Conn> {
    Participant::builder(name)
        .handle_fact::<OrderPlaced>(notes.clone())
        .handle_fact::<OrderPaid>(notes.clone())
        .build()
        .expect("one handler for each")
}

fn summary(
    notes: &Notes,
    db: impl Inbox<Connection = Conn>,
    transport: &MemoryTransport,
) -> RunningParticipant {
    named(SUMMARY, notes).start(db, transport.clone())
}

fn placed(key: &str, order: &str, trouble: &str) -> Record {
    let fact = OrderPlaced { order: order.into(), trouble: trouble.into() };
    Record::fact(&fact, key).expect("encodable")
}

fn paid(key: &str, order: &str) -> Record {
    Record::fact(&OrderPaid { order: order.into() }, key).expect("encodable")
}

async fn publish(transport: &MemoryTransport, facts: Vec<Record>) {
    transport.ensure_topics(&[WEB.events()]).await.expect("topics");
    let publisher = transport.publisher().await.expect("a publisher");
    publisher.publish(facts).await.expect("published");
}

/// Returns what the summary has told, which is all published.
async fn told(transport: &MemoryTransport) -> Vec<Envelope> {
    let group = ParticipantName::new("reader");
    let subscription = Subscription { group, topics: vec![SUMMARY.events()] };
    let mut subscriber = transport.subscriber(subscription).await.expect("joined");
    loop {
        let received = timeout(Duration::from_secs(5), subscriber.receive(1_000));
        if let Received::Deliveries(told) = received.await.expect("in time").expect("received") {
            let told = told.into_iter();
            return told.map(|it| Envelope::decode(it.value).expect("an envelope")).collect();
        }
    }
}

fn effects(db: &Db) -> Effects {
    db.read(Clone::clone)
}

/// The letters as keys, reasons and whether they wait.
fn letters(db: &Db) -> Vec<(String, String, bool)> {
    let shown =
        |it: DeadLetter| (String::from_utf8_lossy(&it.key).into_owned(), it.reason, it.waits);
    db.dead_letters().into_iter().map(shown).collect()
}

/// Returns the keys of the facts that are given up, and how often each was tried.
fn attempts(db: &Db) -> Vec<(String, u32)> {
    let mut given_up = db.dead_letters();
    given_up.retain(|it| it.reason == "unhandled-fact" && !it.waits);
    let shown = |it: DeadLetter| (String::from_utf8_lossy(&it.key).into_owned(), it.attempts);
    let mut shown: Vec<_> = given_up.into_iter().map(shown).collect();
    shown.sort();
    shown
}

/// I4: delivered again, published twice, or both.
#[tokio::test]
async fn a_fact_has_one_effect_however_often_it_comes() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let fact = placed("ada", "o-1", "");
    publish(&transport, vec![fact.clone(), fact.clone()]).await;
    let first = summary(&notes, db.clone(), &transport);
    until_done(&db, "placed o-1").await;
    first.shutdown().await.expect("an orderly end");
    // Nothing was acknowledged, as after a crash, and more has come.
    let again = MemoryTransport::new();
    publish(&again, vec![fact.clone(), placed("ada", "o-2", ""), fact]).await;
    let second = summary(&notes, db.clone(), &again);
    until_done(&db, "placed o-2").await;
    second.shutdown().await.expect("an orderly end");
    assert_eq!(effects(&db), ["placed o-1", "placed o-2"]);
    assert_eq!(letters(&db), []);
}

/// Two services that share a database do not take each other's facts for duplicates.
#[tokio::test]
async fn each_participant_of_a_database_handles_a_fact() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let _first = named(SUMMARY, &notes).start(db.clone(), transport.clone());
    // It may tell no facts of `summary`.
    let other = Participant::builder(ParticipantName::new("search"));
    let other = other.handle_fact::<OrderPaid>(notes.clone()).build().expect("sound");
    let _second = other.start(db.clone(), transport.clone());
    publish(&transport, vec![paid("ada", "o-1")]).await;
    until("both have handled it", || db.read(Vec::len) == 2).await;
    assert_eq!(effects(&db), ["paid o-1", "paid o-1"]);
}

/// The order of a key holds over types of facts, also in one transaction.
#[tokio::test]
async fn facts_of_one_key_are_handled_in_order() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let facts = (0..100).flat_map(|n| {
        let order = format!("o-{n}");
        [placed("ada", &order, ""), paid("ada", &order)]
    });
    publish(&transport, facts.collect()).await;
    let _summary = summary(&notes, db.clone(), &transport);
    until_done(&db, "paid o-99").await;
    let expected = (0..100).flat_map(|n| [format!("placed o-{n}"), format!("paid o-{n}")]);
    assert_eq!(effects(&db), expected.collect::<Vec<_>>());
}

/// One that cannot be handled is found among many, set aside alone, and holds its own key only.
#[tokio::test]
async fn facts_of_many_keys_are_handled_at_once() {
    let (transport, db, batches) = (MemoryTransport::new(), database(), Batches::default());
    let orders: Vec<_> = (0..100).map(|n| format!("o-{n}")).collect();
    let mut facts: Vec<_> = orders.iter().map(|order| paid(order, order)).collect();
    facts.insert(50, paid("ada", "poison"));
    facts.push(paid("ada", "behind"));
    facts.push(paid("bob", "last"));
    publish(&transport, facts.clone()).await;
    let summary = Participant::builder(SUMMARY);
    let summary = summary.handle_all_facts::<OrderPaid>(batches.clone()).build().expect("sound");
    let running = summary.start(db.clone(), transport.clone());
    until_done(&db, "paid last").await;
    until("both are kept", || letters(&db).len() == 2).await;
    running.shutdown().await.expect("an orderly end");

    let mut expected: Vec<_> = orders.iter().map(|order| format!("paid {order}")).collect();
    expected.push("paid last".to_owned());
    let mut done = effects(&db);
    done.sort();
    expected.sort();
    assert_eq!(done, expected, "each once");
    let ada = |reason: &str, waits| ("ada".to_owned(), reason.to_owned(), waits);
    assert_eq!(letters(&db), [ada("unhandled-fact", false), ada("waits-for-its-key", true)]);
    assert!(batches.most.load(SeqCst) >= 16, "{} at most", batches.most.load(SeqCst));
    let counted =
        |it: Envelope| -> Counted { Json::decode(it.payload.as_bytes()).expect("a fact") };
    let told = told(&transport).await.into_iter().map(counted);
    let mut counted: Vec<_> = told.map(|it| format!("paid {}", it.order)).collect();
    counted.sort();
    assert_eq!(counted, expected, "each is told once, and nothing that was rolled back");
}

/// F36, F77, I12.
#[tokio::test(start_paused = true)]
async fn facts_wait_behind_one_that_was_not_handled_and_come_back_in_order() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let running = summary(&notes, db.clone(), &transport);
    publish(
        &transport,
        vec![
            placed("ada", "a-0", ""),
            placed("ada", "a-1", "bug"),
            paid("ada", "a-1"),
            placed("bob", "b-1", "panic"),
            placed("cleo", "c-1", "flaky"),
            placed("dora", "d-1", "foreign"),
        ],
    )
    .await;
    until("three are set aside, and one waits", || letters(&db).len() == 4).await;
    // Who comes later, or is new to the group, knows of it.
    running.shutdown().await.expect("an orderly end");
    let _running = summary(&notes, db.clone(), &transport);
    publish(&transport, vec![placed("ada", "a-2", ""), placed("eve", "e-1", "")]).await;
    until_done(&db, "placed e-1").await;
    until("the new one waits as well", || letters(&db).len() == 5).await;
    let mut done = effects(&db);
    done.sort();
    assert_eq!(done, ["placed a-0", "placed c-1", "placed e-1"]);
    // One comes back by itself before it is given up; the others would only fail again.
    let expected = [("ada".to_owned(), 6), ("bob".to_owned(), 1), ("dora".to_owned(), 1)];
    let given_up = timeout(Duration::from_mins(1), async {
        while attempts(&db) != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(given_up.await.is_ok(), "{:?}", attempts(&db));

    notes.is_mended.store(true, SeqCst);
    let of_ada = LetterFilter::all().key(&b"ada"[..]).reason("unhandled-fact");
    let task = LetterTask::redrive("ada", "mended");
    assert_eq!(task.run(&db, &of_ada).await.expect("run").letters, 1);
    let back = timeout(Duration::from_mins(2), async {
        while !effects(&db).contains(&"placed a-2".to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    back.await.expect("what waited comes back");
    let ada: Vec<_> = effects(&db).into_iter().filter(|it| it.contains(" a-")).collect();
    assert_eq!(ada, ["placed a-0", "placed a-1", "paid a-1", "placed a-2"]);
}

/// I11: a fact without a key waits for nobody, and comes back by itself like any other.
#[tokio::test(start_paused = true)]
async fn a_fact_without_a_key_comes_back_by_itself() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let _running = summary(&notes, db.clone(), &transport);
    let keyless = |order, trouble| {
        let (key, partition) = (Bytes::new(), Some(0));
        Record { key, partition, ..placed("ada", order, trouble) }
    };
    publish(&transport, vec![keyless("o-1", "panic"), keyless("o-2", "bug")]).await;
    until("one is given up, and one comes back", || letters(&db).len() == 2).await;
    notes.is_mended.store(true, SeqCst);
    let back = timeout(Duration::from_mins(1), async {
        while letters(&db).len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    back.await.expect("it comes back");
    assert_eq!(effects(&db), ["placed o-2"]);
}

/// F01, F03, I4: the process dies, or its database fails, before or after each write.
#[test]
fn a_fact_has_one_effect_whichever_write_fails() {
    let facts = [placed("ada", "o-1", ""), placed("bob", "o-2", "bug"), paid("ada", "o-1")];
    each_write_fails(&facts, || named(SUMMARY, &Notes::default()), ["paid o-1", "placed o-1"]);
}

/// F01, F03, I4: the same where facts are handled together.
#[test]
fn facts_that_are_handled_together_have_one_effect_whichever_write_fails() {
    let facts = [paid("ada", "o-1"), paid("bob", "poison"), paid("cleo", "o-2")];
    let together = || {
        let summary = Participant::builder(SUMMARY);
        summary.handle_all_facts::<OrderPaid>(Batches::default()).build().expect("sound")
    };
    each_write_fails(&facts, together, ["paid o-1", "paid o-2"]);
}

/// Breaks the summary at each of its writes, and has another one go on. One of the facts cannot be handled.
fn each_write_fails(
    facts: &[Record],
    summary: impl Fn() -> Participant<Conn>,
    expected: [&str; 2],
) {
    let mut writes = 1;
    for nth in 1.. {
        if nth > writes {
            break;
        }
        for moment in [Moment::Before, Moment::After] {
            for is_killed in [true, false] {
                let (transport, db) = (MemoryTransport::new(), database());
                let faults = Faults::new();
                match is_killed {
                    true => faults.kill_at(Operation::Write, nth, moment),
                    false => faults.fail_at(Operation::Write, nth, moment),
                }
                let outside = Runtime::new().expect("a runtime");
                outside.block_on(publish(&transport, facts.to_vec()));
                let inside = Runtime::new().expect("a runtime");
                let first = {
                    let _entered = inside.enter();
                    summary().start(Faulty::new(db.clone(), &faults), transport.clone())
                };
                let is_done = || letters(&db).len() == 1 && db.read(Vec::len) == 2;
                outside.block_on(async {
                    tokio::select! {
                        () = until("all is done", is_done) => {}
                        () = faults.killed() => {}
                    }
                });
                writes = writes.max(faults.calls(Operation::Write));
                inside.shutdown_timeout(Duration::from_secs(10));
                drop(first);
                outside.block_on(async {
                    let _second = summary().start(db.clone(), transport.clone());
                    until("all is done", is_done).await;
                });
                let what = format!("{moment:?} write {nth}, killed: {is_killed}");
                let mut done = effects(&db);
                done.sort();
                assert_eq!(done, expected, "{what}");
                assert_eq!(letters(&db).len(), 1, "{what}");
            }
        }
    }
    assert!(writes >= 3, "saw {writes} writes: attempts, effects, and a letter");
}

/// F40: a database that is away sets nothing aside and uses nothing up.
#[tokio::test(start_paused = true)]
async fn an_outage_sets_no_fact_aside() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let faults = Faults::new();
    for nth in 1..=30 {
        faults.fail_at(Operation::Begin, nth, Moment::Before);
    }
    publish(&transport, vec![placed("ada", "o-1", "")]).await;
    let _summary = summary(&notes, Faulty::new(db.clone(), &faults), &transport);
    let done = async {
        while db.read(Vec::is_empty) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(5), done).await.expect("the outage is outlasted");
    assert_eq!((effects(&db), letters(&db)), (vec!["placed o-1".to_owned()], vec![]));
}

/// F04, F36: a fact that kills whoever handles it comes to rest, and those of other keys are handled once. So is it, once it
/// is mended.
#[test]
fn f04_a_fact_that_kills_whoever_handles_it_is_set_aside() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let outside = Runtime::new().expect("a runtime");
    let fatal = placed("ada", "o-1", "fatal");
    let facts = vec![fatal.clone(), paid("ada", "o-1"), paid("bob", "o-2")];
    outside.block_on(publish(&transport, facts));
    for death in 1..=3 {
        let inside = Runtime::new().expect("a runtime");
        let running = {
            let _entered = inside.enter();
            summary(&notes, db.clone(), &transport)
        };
        outside.block_on(until("it is begun", || notes.calls.load(SeqCst) == death));
        // Nothing of it is carried on: not even its own end.
        inside.shutdown_background();
        drop(running);
    }
    outside.block_on(async {
        let _last = summary(&notes, db.clone(), &transport);
        until_done(&db, "paid o-2").await;
        until("it is set aside, and what is behind it waits", || letters(&db).len() == 2).await;
    });
    assert_eq!(notes.calls.load(SeqCst), 3, "each death is counted");
    assert_eq!(attempts(&db), [("ada".to_owned(), 3)], "on record too");
    assert_eq!(effects(&db), ["paid o-2"]);

    // Whoever had published it died before that was on record.
    notes.is_mended.store(true, SeqCst);
    outside.block_on(async {
        publish(&transport, vec![fatal]).await;
        let _last = summary(&notes, db.clone(), &transport);
        until("it waits behind itself", || letters(&db).len() == 3).await;
        let unhandled = LetterFilter::all().reason("unhandled-fact");
        let task = LetterTask::redrive("ada", "mended");
        assert_eq!(task.run(&db, &unhandled).await.expect("run").letters, 1);
        let back = async {
            while !letters(&db).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_mins(1), back).await.expect("all come back");
    });
    assert_eq!(notes.calls.load(SeqCst), 4);
    assert_eq!(effects(&db), ["paid o-2", "placed o-1", "paid o-1"], "each once");
}

/// I4b: what may have been handled and forgotten is not handled, and not lost.
#[tokio::test]
async fn i4b_a_fact_older_than_what_the_inbox_remembers_is_set_aside() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let old = placed("ada", "o-1", "");
    let later = ManualClock::at(SystemClock::new().now() + Duration::from_hours(2));
    db.clone().clock(later).purge_inbox(Duration::from_hours(1), 10).await.expect("purge");
    publish(&transport, vec![old]).await;
    let _summary = summary(&notes, db.clone(), &transport);
    until("it is set aside", || letters(&db).len() == 1).await;
    assert_eq!(letters(&db), [("ada".to_owned(), "forgotten-fact".to_owned(), false)]);
    assert!(db.dead_letters()[0].detail.contains("older than what the inbox remembers"));
    assert_eq!(notes.calls.load(SeqCst), 0);
}

/// What is not for it is let go; what is broken is kept.
#[tokio::test]
async fn what_is_no_fact_for_it_is_told_apart() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let unknown = Record {
        topic: WEB.events(),
        ..Record::fact(&Counted { order: "x".into() }, "k").expect("fits")
    };
    let broken = Record { value: (&b"\xff"[..]).into(), ..placed("eve", "o-1", "") };
    let misspelt = Envelope {
        id: MessageId::now(),
        message_type: OrderPlaced::TYPE,
        source: WEB,
        correlation: CorrelationId::new("o-1").expect("short"),
        causation: None,
        traceparent: None,
        timestamp: SystemClock::new().now(),
        kind: Kind::Fact,
        payload: Payload::from(b"{}".to_vec()),
    };
    let misspelt = Record { value: misspelt.encode(), ..placed("fay", "o-1", "") };
    let command = Record { topic: WEB.events(), ..crate::reserve("o-1", "") };
    publish(&transport, vec![unknown, broken, misspelt, command, paid("ada", "o-9")]).await;
    let _summary = summary(&notes, db.clone(), &transport);
    until_done(&db, "paid o-9").await;
    until("three are set aside", || letters(&db).len() == 3).await;
    let mut reasons: Vec<_> = letters(&db).into_iter().map(|(_, reason, _)| reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["undecodable", "unexpected-command", "unhandled-fact"]);
}

/// What a handler tells goes out with its transaction, and carries the operation on.
#[tokio::test]
async fn a_fact_that_follows_is_told_once() {
    let (transport, db, notes) = (MemoryTransport::new(), database(), Notes::default());
    let cause = placed("ada", "o-1", "");
    let id = Envelope::decode(cause.value.clone()).expect("an envelope").id;
    publish(&transport, vec![cause.clone(), cause, placed("bob", "o-2", "bug")]).await;
    let running = summary(&notes, db.clone(), &transport);
    until_done(&db, "placed o-1").await;
    until("the other one is set aside", || letters(&db).len() == 1).await;
    running.shutdown().await.expect("an orderly end");
    let told = told(&transport).await;
    assert_eq!(told.len(), 1, "what was rolled back is not told: {told:?}");
    assert_eq!((&told[0].message_type, told[0].causation), (&Counted::TYPE, Some(id)));
    assert_eq!(told[0].correlation.as_str(), "ada");
}

#[tokio::test]
async fn an_engine_refuses_a_local_participant_that_handles_facts() {
    let local = named(SUMMARY, &Notes::default());
    let started = Engine::builder(SHOP, database()).local(local).start();
    let Err(Error::Definition(DefinitionError::LocalFact { participant, .. })) = started else {
        panic!("it would never hear of a fact: {started:?}");
    };
    assert_eq!(participant, SUMMARY);
}

#[test]
fn one_type_of_fact_has_one_handler() {
    let twice = Participant::builder(SUMMARY)
        .handle_fact::<OrderPaid>(Notes::default())
        .handle_fact::<OrderPaid>(Notes::default())
        .build();
    let problem = twice.expect_err("nobody knows which one is meant").to_string();
    assert_eq!(problem, "participant `summary` has two handlers for `OrderPaid`");
}
