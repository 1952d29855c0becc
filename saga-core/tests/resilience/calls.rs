//! Calls to other systems: made beside everything else, and never forgotten.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use saga_core::message::{Envelope, Kind, Outcome};
use saga_core::transport::Record;
use saga_core::{
    HandleExternal, HandlerResult, IdempotencyKey, MemoryTransport, MessageId, Participant, Reply,
    RunningParticipant, SagaId,
};
use tokio::time::{Instant, sleep, timeout};

use crate::killers::replies;
use crate::support::{Conn, Db, Done, Release, Reserve, STOCK};
use crate::{command, database, reserve, send};

/// Another system, which does what an order says under `trouble`.
#[derive(Clone, Default)]
struct Bank {
    /// What was called for, in order: begun, and answered.
    calls: Arc<Mutex<Vec<String>>>,
}

impl Bank {
    fn start(&self, db: &Db, transport: &MemoryTransport) -> RunningParticipant {
        let bank = Participant::<Conn>::builder(STOCK)
            .handle_external::<Reserve>(self.clone())
            .handle_external::<Release>(self.clone());
        bank.build().expect("sound").start(db.clone(), transport.clone())
    }

    async fn call(&self, what: &str, order: &str, trouble: &str) -> HandlerResult<Done> {
        self.note(format!("{what} {order}"));
        match trouble {
            "hang" => std::future::pending().await,
            "slow" => sleep(Duration::from_secs(1)).await,
            "down at first" if self.begun(&format!("{what} {order}")) <= 3 => {
                return Err("down".into());
            }
            _ => {}
        }
        self.note(format!("{what} {order}: done"));
        Ok(Reply::succeeded(Done {}))
    }

    fn note(&self, what: String) {
        self.calls.lock().expect("no panic").push(what);
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no panic").clone()
    }

    fn begun(&self, call: &str) -> usize {
        self.calls().iter().filter(|it| *it == call).count()
    }
}

impl HandleExternal<Reserve> for Bank {
    async fn call(&self, command: Reserve, _: IdempotencyKey) -> HandlerResult<Done> {
        Self::call(self, "reserve", &command.order, &command.trouble).await
    }
}

impl HandleExternal<Release> for Bank {
    async fn call(&self, command: Release, _: IdempotencyKey) -> HandlerResult<Done> {
        Self::call(self, "release", &command.order, &command.trouble).await
    }
}

fn release(order: &str, trouble: &str, compensates: MessageId) -> Record {
    let body = format!(r#"{{"order":"{order}","trouble":"{trouble}"}}"#);
    command(MessageId::now(), "Release", Some(compensates), &body)
}

fn id(record: &Record) -> MessageId {
    Envelope::decode(record.value.clone()).expect("an envelope").id
}

/// Lets two commands be of one saga.
fn of_one_saga(records: &mut [&mut Record]) {
    let saga = SagaId::now();
    for record in records {
        let mut envelope = Envelope::decode(record.value.clone()).expect("an envelope");
        let Kind::Command(headers) = &mut envelope.kind else { panic!("no command") };
        headers.saga = saga;
        record.value = envelope.encode();
    }
}

/// F73, I12: what comes behind a call that hangs is answered at once, but for its own saga's commands.
#[tokio::test(start_paused = true)]
async fn f73_a_call_that_hangs_holds_up_its_own_saga_and_no_other() {
    const OTHERS: usize = 1_200;
    let (transport, db, bank) = (MemoryTransport::new(), database(), Bank::default());
    let _bank = bank.start(&db, &transport);
    let mut hanging = reserve("o-1", "hang");
    let mut undo = release("o-1", "", id(&hanging));
    of_one_saga(&mut [&mut hanging, &mut undo]);
    let begun = Instant::now();
    send(&transport, vec![hanging.clone(), undo.clone()]).await;
    for n in 0..OTHERS {
        send(&transport, vec![reserve(&format!("other-{n}"), "")]).await;
    }
    let last = reserve("last", "");
    send(&transport, vec![last.clone()]).await;
    assert_eq!(replies(&transport, &last).await, [Outcome::Succeeded]);
    assert!(begun.elapsed() < Duration::from_secs(1), "they waited {:?}", begun.elapsed());
    assert_eq!(
        bank.begun("release o-1"),
        0,
        "its saga's next command waits for the end of the call"
    );

    let answers = replies(&transport, &hanging).await;
    assert!(matches!(&answers[..], [Outcome::FailedTransiently(_)]), "{answers:?}");
    assert_eq!(replies(&transport, &undo).await, [Outcome::Succeeded]);
    let tries = bank.begun("reserve o-1");
    assert_eq!((tries, bank.begun("release o-1: done")), (3, 1));
    let in_order = bank.calls();
    let position = |call: &str| in_order.iter().rposition(|it| it == call);
    assert!(position("reserve o-1") < position("release o-1"), "it was undone while it was made");
}

/// F03, I8: that a compensation failed does not make it look as if there were nothing to undo.
#[tokio::test(start_paused = true)]
async fn the_compensation_of_a_call_that_nobody_recorded_is_made_again_after_it_failed() {
    let (transport, db, bank) = (MemoryTransport::new(), database(), Bank::default());
    let _bank = bank.start(&db, &transport);
    let lost = reserve("o-1", "");
    let undo = release("o-1", "down at first", id(&lost));
    send(&transport, vec![undo.clone()]).await;
    let first = replies(&transport, &undo).await;
    assert!(matches!(&first[..], [Outcome::FailedTransiently(_)]), "{first:?}");
    send(&transport, vec![undo.clone()]).await;
    until_called(&bank, "release o-1: done").await;
    // From now on the command is barred, and the compensation is on record.
    send(&transport, vec![lost.clone(), undo.clone()]).await;
    let barred = replies(&transport, &lost).await;
    assert_eq!(barred, [Outcome::Rejected("undone-before-it-arrived".to_owned())]);
    assert_eq!((bank.begun("release o-1"), bank.begun("reserve o-1")), (4, 0));
}

async fn until_called(bank: &Bank, call: &str) {
    let polled = async {
        while bank.begun(call) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_mins(1), polled).await.expect(call);
}

/// I15: calls that are being made are awaited, recorded and acknowledged.
#[tokio::test(start_paused = true)]
async fn i15_an_orderly_end_repeats_no_call() {
    const CALLS: usize = 600;
    let (transport, db, bank) = (MemoryTransport::new(), database(), Bank::default());
    let participant = bank.start(&db, &transport);
    let orders: Vec<_> = (0..CALLS).map(|n| reserve(&format!("o-{n}"), "slow")).collect();
    send(&transport, orders.clone()).await;
    until_called(&bank, "reserve o-0").await;
    let begun = Instant::now();
    participant.shutdown().await.expect("an orderly end");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let at_first = bank.calls().iter().filter(|it| it.ends_with("done")).count();
    assert!((1..CALLS).contains(&at_first), "it was to end in the midst of them: {at_first}");
    let _again = bank.start(&db, &transport);
    for order in &orders {
        assert_eq!(replies(&transport, order).await, [Outcome::Succeeded]);
    }
    assert_eq!(bank.calls().len(), 2 * CALLS, "each was begun once and answered once");
}

/// F04, F12: nobody died over a call that is handed over while it is made.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_handed_over_again_and_again_is_not_taken_for_a_killer() {
    let transport = MemoryTransport::new().partitions(16);
    let (db, bank) = (database(), Bank::default());
    let hanging = Record { partition: Some(15), ..reserve("o-1", "hang") };
    send(&transport, vec![hanging.clone()]).await;
    let mut members = Vec::new();
    // The last partition goes to whoever joined last.
    for owner in 1..=5 {
        members.push(bank.start(&db, &transport));
        let polled = async {
            while bank.begun("reserve o-1") < owner {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), polled).await.unwrap_or_else(|_| {
            panic!("owner {owner} did not make the call: {:?}", bank.calls());
        });
    }
    let answers = replies(&transport, &hanging).await;
    assert!(matches!(&answers[0], Outcome::FailedTransiently(_)), "{answers:?}");
}

/// F04: nobody died over a call that a clean stop cuts off.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_off_again_and_again_is_not_taken_for_a_killer() {
    let (transport, db, bank) = (MemoryTransport::new(), database(), Bank::default());
    let hanging = reserve("o-1", "hang");
    send(&transport, vec![hanging.clone()]).await;
    for life in 1..=5 {
        let participant = bank.start(&db, &transport);
        let polled = async {
            while bank.begun("reserve o-1") < life {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), polled).await.expect("the call is made");
        participant.shutdown().await.expect("an orderly end");
    }
    let _participant = bank.start(&db, &transport);
    let answers = replies(&transport, &hanging).await;
    assert!(matches!(&answers[0], Outcome::FailedTransiently(_)), "{answers:?}");
}
