//! Everything at once about one saga, and one poison among many commands.

use std::sync::atomic::Ordering;
use std::time::Duration;

use saga_core::machine::HistoryKind;
use saga_core::message::{Kind, Outcome, ReplyHeaders};
use saga_core::transport::{Received, Record, Subscription};
use saga_core::{
    Context, Engine, Envelope, Fact as _, Handle, HandlerResult, MemoryTransport, Message as _,
    MessageId, Participant, ParticipantName, Payload, Publisher as _, Status, Subscriber as _,
    Transport as _,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    Conn, Done, OrderPlaced, Reserve, SHOP, STOCK, Shop, ended, engine, key, order, participants,
    stock,
};
use crate::{database, one_step, reserve, send, until};

/// F14, F60, F76, I2: a thousand answers come in one batch, and they do not even agree.
#[tokio::test]
async fn f76_a_thousand_replies_at_once_settle_a_step_once() {
    let (transport, db) = (MemoryTransport::new(), database());
    let engine = Engine::builder(SHOP, db.clone()).saga(one_step()).transport(transport.clone());
    let engine = engine.start().expect("the parts fit");
    let saga = engine.start(key("o-1"), order("o-1", "")).await.expect("accepted").saga();
    let command = asked(&transport).await;
    let reply = |number: u32| {
        let rejected = Outcome::Rejected("too late".to_owned());
        let outcome = if number == 0 { Outcome::Succeeded } else { rejected };
        answer(&command, if number.is_multiple_of(2) { Outcome::Succeeded } else { outcome })
    };
    let publisher = transport.publisher().await.expect("a publisher");
    publisher.publish((0..1_000).map(reply).collect()).await.expect("published");
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    // What is left of them is taken, and changes nothing.
    let other = engine.start(key("o-2"), order("o-2", "")).await.expect("accepted");
    let stock = stock(&Shop::default()).start(db.clone(), transport);
    assert_eq!(ended(&engine, other.saga()).await, Status::Completed);
    let history = engine.history(saga).await.expect("a history");
    let settled = |kind| matches!(kind, HistoryKind::Succeeded | HistoryKind::Rejected);
    assert_eq!(history.iter().filter(|it| settled(it.kind)).count(), 1, "{history:?}");
    stock.shutdown().await.expect("an orderly end");
}

/// Waits for the command that the stock is sent.
async fn asked(transport: &MemoryTransport) -> Envelope {
    let group = ParticipantName::new("eavesdropper");
    transport.ensure_topics(&[STOCK.commands(), STOCK.events()]).await.expect("topics");
    let subscription = Subscription { group, topics: vec![STOCK.commands()] };
    let mut subscriber = transport.subscriber(subscription).await.expect("joined");
    loop {
        if let Received::Deliveries(it) = subscriber.receive(1).await.expect("received") {
            return Envelope::decode(it[0].value.clone()).expect("a command");
        }
    }
}

fn answer(command: &Envelope, outcome: Outcome) -> Record {
    let Kind::Command(headers) = command.kind.clone() else { panic!("it is a command") };
    let (saga, step, attempt) = (headers.saga, headers.step, headers.attempt);
    let envelope = Envelope {
        id: MessageId::now(),
        message_type: Done::TYPE,
        source: STOCK,
        causation: Some(command.id),
        kind: Kind::Reply(ReplyHeaders { saga, step, attempt, outcome }),
        payload: Payload::from(b"{}".to_vec()),
        ..command.clone()
    };
    let (topic, key) = (STOCK.events(), saga.to_string().into());
    let partition = headers.reply_partition;
    Record { topic, partition, key, value: envelope.encode(), headers: Vec::new() }
}

/// I12: those that came before it in its batch are carried out once more, and nothing else.
#[tokio::test(start_paused = true)]
async fn i12_a_poison_costs_no_more_than_what_came_before_it_in_its_batch() {
    const COMMANDS: usize = 1_000;
    let (transport, db, shop) = (MemoryTransport::new(), database(), Shop::default());
    let mut records: Vec<_> = (1..COMMANDS).map(|n| reserve(&format!("o-{n}"), "")).collect();
    records.insert(600, reserve("poison", "reserve:terminal"));
    send(&transport, records).await;
    let stock = stock(&shop).start(db.clone(), transport);
    until("all others are done", || db.read(Vec::len) == COMMANDS - 1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let calls = shop.calls.load(Ordering::SeqCst) as usize;
    // The batches have 32, 64, 128, 256 and 512 commands; it is the 121st of the last one.
    assert!((COMMANDS + 1..=COMMANDS + 130).contains(&calls), "{calls} calls of the handler");
    stock.shutdown().await.expect("an orderly end");
}

/// Takes its time for each command, and only then finds out that it cannot carry it out.
struct Thorough(Shop);

impl Handle<Reserve, Conn> for Thorough {
    async fn handle(&self, command: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.0.handle(command, cx).await
    }
}

/// I12: one that fails for ever, in the same partition, again and again among those that keep the participant busy.
///
/// Time moves only where somebody waits or works.
#[tokio::test(start_paused = true)]
async fn i12_a_saga_that_fails_for_ever_costs_a_thousand_others_less_than_a_twentieth() {
    let (without, _) = thousand(None).await;
    let (with, attempts) = thousand(Some("reserve:fail")).await;
    println!("a thousand sagas take {without:?}, beside one that fails {attempts} times {with:?}");
    assert!(attempts >= 5, "it failed {attempts} times among them");
    assert!(with.as_secs_f64() < without.as_secs_f64() * 1.05, "{with:?}, not {without:?}");
}

/// Returns how long a thousand sagas take, beside one with a trouble that then has failed so often.
async fn thousand(trouble: Option<&str>) -> (Duration, usize) {
    let (transport, db) = (MemoryTransport::new().partitions(1), database());
    let stock = Participant::builder(STOCK).handle::<Reserve>(Thorough(Shop::default()));
    let stock = stock.build().expect("sound").start(db.clone(), transport.clone());
    let engine = Engine::builder(SHOP, db).saga(one_step()).transport(transport);
    let engine = engine.start().expect("the parts fit");
    let began = Instant::now();
    let mut sagas = JoinSet::new();
    let mut poison = None;
    for wave in 0..20 {
        for number in 0..50 {
            let (engine, name) = (engine.clone(), format!("o-{wave}-{number}"));
            sagas.spawn(async move {
                let started = engine.start(key(&name), order(&name, "")).await.expect("accepted");
                started.outcome().await.expect("the engine works")
            });
        }
        // Among them, not before them.
        if let Some(trouble) = trouble.filter(|_| poison.is_none()) {
            let name = key("poison");
            poison = Some(engine.start(name, order("poison", trouble)).await.expect("accepted"));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(sagas.join_all().await.iter().all(|status| *status == Status::Completed));
    let took = began.elapsed();
    let mut attempts = 0;
    if let Some(poison) = poison {
        let history = engine.history(poison.saga()).await.expect("a history");
        attempts = history.iter().filter(|it| it.kind == HistoryKind::AttemptFailed).count();
    }
    stock.shutdown().await.expect("an orderly end");
    (took, attempts)
}

/// F30, F77, I12: broken bytes among commands and facts, and a saga that fails for ever, all in one partition.
#[tokio::test(start_paused = true)]
async fn i12_other_keys_of_the_partition_go_on_within_a_second() {
    let (transport, db) = (MemoryTransport::new().partitions(1), database());
    let engine = engine(db.clone(), &transport);
    let participants = participants(&Shop::default(), &db, &transport);
    let poison = engine.start(key("poison"), order("poison", "ship:fail")).await.expect("accepted");
    let publisher = transport.publisher().await.expect("a publisher");
    let mut slowest = Duration::ZERO;
    for number in 0..100 {
        let broken = |topic| {
            let (key, value) = (format!("broken-{number}").into(), "no envelope".into());
            Record { topic, partition: Some(0), key, value, headers: Vec::new() }
        };
        let records = vec![broken(STOCK.commands()), broken(OrderPlaced::SOURCE.events())];
        publisher.publish(records).await.expect("published");
        let (name, began) = (format!("o-{number}"), Instant::now());
        let saga = engine.start(key(&name), order(&name, "")).await.expect("accepted").saga();
        assert_eq!(ended(&engine, saga).await, Status::Completed);
        slowest = slowest.max(began.elapsed());
    }
    println!("the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(db.dead_letters().len(), 200, "each is set aside");
    let status = engine.inspect(poison.saga()).await.expect("read").expect("it exists").status();
    assert_eq!(status, Status::Running, "it goes on failing");
    for participant in participants {
        participant.shutdown().await.expect("an orderly end");
    }
}
