//! Everything at once about one saga, and one poison among many commands.

use std::time::Duration;

use saga_core::machine::HistoryKind;
use saga_core::message::{Kind, Outcome, ReplyHeaders};
use saga_core::transport::{Received, Record, Subscription};
use saga_core::{
    Engine, Envelope, MemoryTransport, Message as _, MessageId, ParticipantName, Payload,
    Publisher as _, Status, Subscriber as _, Transport as _,
};

use std::sync::atomic::Ordering;

use crate::support::{Done, SHOP, STOCK, Shop, ended, key, order, stock};
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
