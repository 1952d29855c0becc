//! A command that kills whoever carries it out comes to rest, and the others go on.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use saga_core::message::{Kind, Outcome};
use saga_core::participant::Handled;
use saga_core::store::{DeadLetter, LetterFilter, Transactional as _};
use saga_core::transport::{Delivery, Position, Received, Record, Subscription};
use saga_core::{
    Context, Envelope, Handle, HandlerResult, Inbox, LetterTask, MemoryTransport, Participant,
    ParticipantName, Reply, RunningParticipant, Subscriber as _, Timestamp, Transport as _,
};
use saga_testkit::{Faults, Faulty, Moment, Operation, SimulatedClock};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::support::{Conn, Db, Done, Reserve, STOCK};
use crate::{database, reserve, send, until_done};

/// How often each order was begun; a fatal one never ends before it is healed.
#[derive(Clone, Default)]
struct Mortal {
    begun: Arc<Mutex<HashMap<String, u32>>>,
    dying: Arc<Notify>,
    is_healed: Arc<AtomicBool>,
}

impl Handle<Reserve, Conn> for Mortal {
    async fn handle(&self, command: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        *self.begun.lock().expect("no panic").entry(command.order.clone()).or_default() += 1;
        if command.trouble == "fatal" && !self.is_healed.load(SeqCst) {
            self.dying.notify_one();
            std::future::pending::<()>().await;
        }
        cx.connection().push(format!("reserve {}", command.order));
        Ok(Reply::succeeded(Done {}))
    }
}

impl Mortal {
    fn start(&self, db: &Db, transport: &MemoryTransport) -> RunningParticipant {
        self.start_on(db.clone(), transport)
    }

    fn start_on(
        &self,
        db: impl Inbox<Connection = Conn>,
        transport: &MemoryTransport,
    ) -> RunningParticipant {
        let participant = Participant::builder(STOCK).handle::<Reserve>(self.clone());
        participant.build().expect("sound").start(db, transport.clone())
    }

    fn begun(&self, order: &str) -> u32 {
        self.begun.lock().expect("no panic").get(order).copied().unwrap_or_default()
    }
}

/// A participant in a process of its own, which can be killed.
struct Process {
    runtime: Runtime,
    participant: RunningParticipant,
}

impl Process {
    fn start(mortal: &Mortal, db: &Db, transport: &MemoryTransport) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let participant = mortal.start(db, transport);
        drop(entered);
        Self { runtime, participant }
    }

    /// Nothing of it is carried on: not even its own end.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    async fn shutdown(self) {
        self.participant.shutdown().await.expect("an orderly end");
        self.runtime.shutdown_background();
    }
}

/// F04, I12: after three deaths it is answered as failed, which parks its saga, and everything else is carried out once.
#[tokio::test]
async fn f04_a_command_that_kills_whoever_carries_it_out_comes_to_rest() {
    const OTHERS: usize = 1_200;
    let (transport, db, mortal) = (MemoryTransport::new(), database(), Mortal::default());
    let fatal = reserve("fatal", "fatal");
    let mut records: Vec<_> = (0..OTHERS).map(|n| reserve(&format!("o-{n}"), "")).collect();
    // Not in the first batch, and others before and behind it.
    records.insert(700, fatal.clone());
    send(&transport, records).await;

    let mut deaths = 0;
    loop {
        let process = Process::start(&mortal, &db, &transport);
        tokio::select! {
            () = until_done(&db, "reserve o-1199") => break process.shutdown().await,
            () = mortal.dying.notified() => {
                deaths += 1;
                process.kill();
            }
        }
    }
    assert_eq!((deaths, mortal.begun("fatal")), (4, 4), "once unaware, and three times counted");
    let effects = db.read(Vec::len);
    assert_eq!(effects, OTHERS, "each of the others once");
    let replies = replies(&transport, &fatal).await;
    let [Outcome::FailedPermanently(problem)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(problem, "3 processes died while they carried it out");
}

/// F04: nobody died over a command that a clean stop cuts off.
#[tokio::test(start_paused = true)]
async fn f04_a_command_that_is_cut_off_again_and_again_is_not_taken_for_a_killer() {
    let (transport, db, mortal) = (MemoryTransport::new(), database(), Mortal::default());
    let slow = reserve("slow", "fatal");
    send(&transport, vec![slow.clone()]).await;
    for life in 1..=5 {
        let participant = mortal.start(&db, &transport);
        mortal.dying.notified().await;
        assert_eq!(mortal.begun("slow"), life);
        participant.shutdown().await.expect("an orderly end");
    }
    mortal.is_healed.store(true, SeqCst);
    let _participant = mortal.start(&db, &transport);
    assert_eq!(replies(&transport, &slow).await, [Outcome::Succeeded]);
    assert_eq!(db.read(Vec::len), 1);
}

/// F04, I12: what was given up is answered again if it comes again. Only who has it tried anew has all tries anew.
#[tokio::test]
async fn f04_a_command_that_was_given_up_is_carried_out_again_only_if_it_is_tried_anew() {
    let (transport, db, mortal) = (MemoryTransport::new(), database(), Mortal::default());
    let fatal = reserve("fatal", "fatal");
    send(&transport, vec![fatal.clone()]).await;
    for _ in 0..3 {
        let process = Process::start(&mortal, &db, &transport);
        mortal.dying.notified().await;
        process.kill();
    }
    let participant = mortal.start(&db, &transport);
    first_replies(&transport, &fatal, 1).await;
    // Whoever had sent it died before that was on record.
    send(&transport, vec![fatal.clone()]).await;
    first_replies(&transport, &fatal, 2).await;
    participant.shutdown().await.expect("an orderly end");
    // Its saga has waited for an answer until the deadline, and others were carried out meanwhile.
    let others = (0..600).map(|n| reserve(&format!("o-{n}"), ""));
    send(&transport, others.collect()).await;
    let participant = mortal.start(&db, &transport);
    until_done(&db, "reserve o-599").await;
    send(&transport, vec![attempt(&fatal, 2, 0)]).await;
    first_replies(&transport, &fatal, 3).await;
    participant.shutdown().await.expect("an orderly end");
    assert_eq!(mortal.begun("fatal"), 3, "it is not carried out any more");

    // An operator has the saga retry, and it still kills.
    send(&transport, vec![attempt(&fatal, 3, 2)]).await;
    for _ in 0..2 {
        let process = Process::start(&mortal, &db, &transport);
        mortal.dying.notified().await;
        process.kill();
    }
    mortal.is_healed.store(true, SeqCst);
    let participant = mortal.start(&db, &transport);
    let outcomes = first_replies(&transport, &fatal, 4).await;
    let [given_up @ .., Outcome::Succeeded] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(given_up.len(), 3);
    assert!(given_up.iter().all(|it| matches!(it, Outcome::FailedPermanently(_))), "{outcomes:?}");
    assert_eq!(mortal.begun("fatal"), 6);
    participant.shutdown().await.expect("an orderly end");
}

/// F04, F36: a letter that kills whoever carries it out is handed out three times, and stays for a person to look at.
#[tokio::test(start_paused = true)]
async fn f04_a_letter_that_kills_whoever_carries_it_out_comes_to_rest() {
    const LEASE: Duration = Duration::from_secs(30);
    let (transport, mortal) = (MemoryTransport::new(), Mortal::default());
    let db = database().clock(SimulatedClock::new());
    let fatal = reserve("fatal", "");
    send(&transport, Vec::new()).await;
    set_aside(&db, &fatal).await;
    let redrive = LetterTask::redrive("ada", "it may go well now");
    redrive.run(&db, &LetterFilter::all()).await.expect("run");
    for life in 1..=3 {
        let faults = Faults::new();
        faults.kill_at(Operation::Record, 1, Moment::Before);
        let dies = mortal.start_on(Faulty::new(db.clone(), &faults), &transport);
        faults.killed().await;
        assert_eq!(mortal.begun("fatal"), life);
        drop(dies);
        tokio::time::sleep(LEASE).await;
    }
    let _participant = mortal.start(&db, &transport);
    send(&transport, vec![reserve("o-1", "")]).await;
    until_done(&db, "reserve o-1").await;
    tokio::time::sleep(LEASE * 3).await;
    let [letter] = db.dead_letters().try_into().expect("it stays");
    assert_eq!((mortal.begun("fatal"), letter.redrives), (3, 3), "nobody is handed it any more");

    redrive.run(&db, &LetterFilter::all()).await.expect("run");
    assert_eq!(replies(&transport, &fatal).await, [Outcome::Succeeded], "it goes well now");
    tokio::time::sleep(LEASE).await;
    assert_eq!((db.dead_letters(), db.read(Vec::len)), (Vec::new(), 2));
}

/// A person puts a command among the letters of the stock.
async fn set_aside(db: &Db, command: &Record) {
    let position = Position { topic: STOCK.commands(), partition: 0, offset: 0, generation: 0 };
    let Record { key, value, headers, .. } = command.clone();
    let delivery = Delivery { position, key, value, headers, timestamp: Timestamp::default() };
    let letter = DeadLetter::new(&STOCK, delivery, "by-hand", "a test put it here");
    let transaction = db.begin().await.expect("begin");
    let handled = Handled { dead_letters: vec![letter], ..Handled::default() };
    db.record(transaction, handled).await.expect("commit");
}

/// F04: a store that counts and does not say so is asked again, and nothing is counted twice.
#[tokio::test]
async fn f04_what_is_counted_with_an_unknown_end_counts_once() {
    let (transport, db, mortal) = (MemoryTransport::new(), database(), Mortal::default());
    let slow = reserve("slow", "fatal");
    send(&transport, vec![slow.clone()]).await;
    let faults = Faults::new();
    for call in 1..=3 {
        faults.fail_at(Operation::BeginAttempts, call, Moment::After);
    }
    let _participant = mortal.start_on(Faulty::new(db.clone(), &faults), &transport);
    mortal.dying.notified().await;
    let id = envelope(&slow.value).id;
    assert_eq!(db.unfinished(&[id]).await.expect("read"), [(id, 1)]);
}

/// Returns a command as it is sent for an attempt, some of those before which do not count.
fn attempt(command: &Record, attempt: u32, attempts_before: u32) -> Record {
    let mut envelope = envelope(&command.value);
    let Kind::Command(headers) = &mut envelope.kind else { panic!("{envelope:?} is no command") };
    (headers.attempt, headers.attempts_before) = (attempt, attempts_before);
    Record { value: envelope.encode(), ..command.clone() }
}

/// How a command was answered.
pub(crate) async fn replies(transport: &MemoryTransport, to: &Record) -> Vec<Outcome> {
    first_replies(transport, to, 1).await
}

/// How a command was answered, once it was so many times.
async fn first_replies(transport: &MemoryTransport, to: &Record, count: usize) -> Vec<Outcome> {
    let command = envelope(&to.value).id;
    let group = ParticipantName::new("eavesdropper");
    let subscription = Subscription { group, topics: vec![STOCK.events()] };
    let mut subscriber = transport.subscriber(subscription).await.expect("joined");
    let mut outcomes = Vec::new();
    while outcomes.len() < count {
        let Received::Deliveries(events) = subscriber.receive(10_000).await.expect("received")
        else {
            continue;
        };
        let events = events.iter().map(|it| envelope(&it.value));
        let ours = events.filter(|it| it.causation == Some(command));
        outcomes.extend(ours.filter_map(|it| match it.kind {
            Kind::Reply(reply) => Some(reply.outcome),
            _ => None,
        }));
    }
    outcomes
}

fn envelope(value: &Bytes) -> Envelope {
    Envelope::decode(value.clone()).expect("an envelope")
}
