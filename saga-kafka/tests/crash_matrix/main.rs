//! Processes that die at every point, and again while they recover, on a real broker and a real database.
//!
//! `CRASH_CASE=17` plays one case alone; `CRASH_ROUNDS=10` plays all of them ten times.

#[path = "../broker/mod.rs"]
mod broker;
#[path = "../../../saga-postgres/tests/support/mod.rs"]
mod database;
mod judge;
mod life;
mod mine;
mod mined;
mod paths;
mod points;
#[path = "../private/mod.rs"]
mod private;
mod shop;

use std::collections::VecDeque;
use std::env;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use saga_core::store::{
    DeadLetter, DeadLetters as _, LetterAction, LetterOperation, OutboxRow, SagaStore as _, Tick,
};
use saga_core::transport::{Delivery, Position};
use saga_core::{Clock as _, CorrelationId, Envelope, Fact as _, Message as _, MessageId, Payload};
use saga_core::{SystemClock, message::Kind as EnvelopeKind};
use sqlx::ConnectOptions as _;

use life::{Told, stores, trouble};
use paths::points;
use points::{Case, Fault, Scenario, cases};
use shop::{OrderPlaced, SHOP};

/// Runs at a time: most of one is waiting until the broker misses the dead.
const SLOTS: usize = 20;
/// More lives than any run needs.
const LIVES_MAX: u32 = 4;

/// What the runs came to.
#[derive(Default)]
struct Totals {
    runs: AtomicUsize,
    kills: AtomicUsize,
    flaws: Mutex<Vec<String>>,
}

/// F01, F02, F03, F36, I1, I3, I4, I5, I8, I9, I10, I11, I13.
#[test]
fn every_point_survives_death_errors_and_doubt() {
    if let Some(told) = Told::here() {
        return run(life::live(&told));
    }
    assert_eq!(points().len(), 95, "seven kinds of message, and eighteen other points");
    let rounds = env::var("CRASH_ROUNDS").map_or(1, |it| it.parse().expect("a number"));
    let only: Option<usize> = env::var("CRASH_CASE").ok().map(|it| it.parse().expect("a number"));
    let mut queue: VecDeque<_> = (0..rounds).flat_map(|_| cases()).collect();
    queue.retain(|case| only.is_none_or(|only| case.number == only));
    // A letter that was handed out waits for the end of its lease, so those runs begin first.
    queue.make_contiguous().sort_by_key(|case| case.point.scenario != Scenario::Redriven);
    let (all, totals) = (queue.len(), Totals::default());
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for slot in 0..SLOTS.min(all) {
            let (queue, totals) = (&queue, &totals);
            scope.spawn(move || {
                run(work(slot, queue, totals, all));
            });
        }
    });
    let (runs, kills) = (totals.runs.into_inner(), totals.kills.into_inner());
    println!("crash matrix: 95 points and 6 of publishing, {runs} runs, {kills} kills");
    let flaws = totals.flaws.into_inner().expect("no thread panicked");
    assert!(flaws.is_empty(), "{} of {runs} runs:\n{}", flaws.len(), flaws.join("\n"));
    assert!(runs >= 300 || only.is_some(), "too few runs: {runs}");
    assert!(kills >= 295 || only.is_some(), "too few kills: {kills}");
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// Plays cases one after the other, in a world of their own.
async fn work(slot: usize, queue: &Mutex<VecDeque<Case>>, totals: &Totals, all: usize) {
    let (sagas, effects) = (database::fresh().await, database::fresh().await);
    let url = database::database().await.to_url_lossy().to_string();
    let prefix = broker::prefix(&format!("crash-{slot}"));
    loop {
        let Some(case) = queue.lock().expect("no thread panicked").pop_front() else { return };
        let run = totals.runs.fetch_add(1, Ordering::SeqCst);
        let told = Told {
            case: case.number,
            life: 0,
            url: url.clone(),
            sagas: sagas.schema.clone(),
            effects: effects.schema.clone(),
            prefix: prefix.clone(),
            order: format!("o-{run}"),
        };
        let stores = stores(&told).await;
        if let Err(flaw) = play(&case, told, run, &stores, &effects, totals).await {
            let again = format!("to play it alone: CRASH_CASE={}", case.number);
            let flaw = format!("{case}: {flaw}\n  {again}");
            eprintln!("{flaw}");
            totals.flaws.lock().expect("no thread panicked").push(flaw);
        }
        if run.is_multiple_of(20) {
            eprintln!("crash matrix: {run} of {all} runs");
        }
    }
}

/// Lets processes live and die until one ends in order, and judges what is left.
async fn play(
    case: &Case,
    mut told: Told,
    run: usize,
    stores: &(saga_postgres::PostgresStore, saga_postgres::PostgresStore),
    effects: &database::Fresh,
    totals: &Totals,
) -> Result<(), String> {
    let scenario = case.point.scenario;
    prepare(scenario, &told.order, run, stores).await;
    let (mut went_wrong, mut deaths) = (false, 0);
    loop {
        let process = told.clone();
        let lived =
            tokio::task::spawn_blocking(move || live(&process)).await.expect("it is awaited");
        let said = String::from_utf8_lossy(&lived.stdout).into_owned();
        went_wrong |= said.contains(mine::WENT_WRONG);
        if lived.status.success() {
            break;
        }
        let died = std::os::unix::process::ExitStatusExt::signal(&lived.status) == Some(6);
        told.life += 1;
        if !died || told.life == LIVES_MAX {
            let error = String::from_utf8_lossy(&lived.stderr).into_owned();
            let tail: Vec<_> = said.lines().chain(error.lines()).rev().take(40).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            return Err(format!("life {} ended with {}:\n{tail}", told.life, lived.status));
        }
        deaths += 1;
    }
    totals.kills.fetch_add(deaths, Ordering::SeqCst);
    if !went_wrong {
        return Err("the point was never reached".to_owned());
    }
    let expected = match case.fault {
        Fault::Kill => 1..=1,
        // What was acknowledged just before the first death does not come again.
        Fault::KillTwice => 1..=2,
        Fault::Error | Fault::ReportedAsFailed => 0..=0,
    };
    if !expected.contains(&deaths) {
        return Err(format!("it died {deaths} times, not {expected:?}"));
    }
    let table = format!("{}.effect", effects.schema);
    judge::judge(scenario, &told.order, stores, &effects.pool, &table).await
}

fn live(told: &Told) -> Output {
    let mut process = Command::new(env::current_exe().expect("this program"));
    process.args(["--exact", "every_point_survives_death_errors_and_doubt", "--nocapture"]);
    told.tell(&mut process);
    process.output().expect("this program can be started")
}

/// Puts in place what the saga starts from, if it is not a caller.
async fn prepare(
    scenario: Scenario,
    order: &str,
    run: usize,
    (sagas, effects): &(saga_postgres::PostgresStore, saga_postgres::PostgresStore),
) {
    let trouble = trouble(scenario).to_owned();
    let fact = OrderPlaced { order: order.to_owned(), trouble };
    match scenario {
        Scenario::Told => {
            let outbox = vec![OutboxRow::fact(&fact, order).expect("encodable")];
            effects.commit(Tick { outbox, ..Tick::default() }).await.expect("enqueued");
        }
        Scenario::Redriven => {
            let letter = letter(&fact, run);
            let id = letter.id;
            let tick = Tick { dead_letters: vec![letter], ..Tick::default() };
            sagas.commit(tick).await.expect("set aside");
            let (by, reason) = ("ada".to_owned(), "mended".to_owned());
            let redrive = LetterOperation { by, reason, action: LetterAction::Redrive };
            sagas.operate(&redrive, &[(id, std::time::Duration::ZERO)]).await.expect("redrive");
        }
        _ => {}
    }
}

/// A fact that was set aside, although nothing is wrong with it.
fn letter(fact: &OrderPlaced, run: usize) -> DeadLetter {
    let id = MessageId::now();
    let timestamp = SystemClock::new().now();
    let payload = serde_json::to_vec(fact).expect("plain data");
    let envelope = Envelope {
        id,
        message_type: OrderPlaced::TYPE,
        source: OrderPlaced::SOURCE,
        correlation: CorrelationId::from(id),
        causation: None,
        traceparent: None,
        timestamp,
        kind: EnvelopeKind::Fact,
        payload: Payload::from(payload),
    };
    let offset = 1_000_000 + run as u64;
    let topic = OrderPlaced::SOURCE.events();
    let position = Position { topic, partition: 0, offset, generation: 0 };
    let (key, value) = (Bytes::copy_from_slice(fact.order.as_bytes()), envelope.encode());
    let delivery = Delivery { position, key, value, headers: Vec::new(), timestamp };
    DeadLetter::new(&SHOP, delivery, "by-hand", "a test put it here")
}
