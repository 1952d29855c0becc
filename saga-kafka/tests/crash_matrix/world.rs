//! A world of its own for some runs: two schemas, topics, and what is put into them.

use std::env;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use saga_core::store::{
    DeadLetter, DeadLetters as _, LetterAction, LetterOperation, OutboxRow, SagaStore as _, Tick,
};
use saga_core::transport::{Delivery, Position};
use saga_core::{Clock as _, CorrelationId, Envelope, Fact as _, Message as _, MessageId, Payload};
use saga_core::{SystemClock, message::Kind as EnvelopeKind};
use saga_postgres::PostgresStore;
use sqlx::ConnectOptions as _;

use super::audit::audit;
use super::points::{Case, Fault, Scenario};
use super::shop::{OrderNoted, OrderPlaced, SHOP, trouble};
use super::stores::stores;
use super::told::Told;
use super::{broker, database, judge, mine};

/// More lives than any run needs.
const LIVES_MAX: u32 = 4;
/// Facts about an order, of which the first starts its saga.
const FACTS: usize = 16;
/// The signal of a process that aborts.
const SIGABRT: i32 = 6;

/// What some runs have for themselves, one after the other.
pub(crate) struct World {
    url: String,
    sagas: database::Fresh,
    effects: database::Fresh,
    prefix: String,
}

/// What came of a run.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) deaths: usize,
    /// What does not hold, if anything.
    pub(crate) flaws: Vec<String>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self {
            url: database::database().await.to_url_lossy().to_string(),
            sagas: database::fresh().await,
            effects: database::fresh().await,
            prefix: broker::prefix("crash"),
        }
    }

    /// Lets processes live and die until one ends in order, and looks at what is left after each.
    pub(crate) async fn play(&self, case: &Case, planted: Option<usize>, run: usize) -> Outcome {
        let mut told = Told {
            case: case.number,
            life: 0,
            url: self.url.clone(),
            sagas: self.sagas.schema.clone(),
            effects: self.effects.schema.clone(),
            prefix: self.prefix.clone(),
            order: format!("o-{run}"),
            planted,
        };
        let (scenario, stores) = (case.point.scenario, stores(&told).await);
        prepare(scenario, &told.order, run, &stores).await;
        let facts = if scenario == Scenario::Told { FACTS } else { 0 };
        let (mut went_wrong, mut outcome) = (false, Outcome::default());
        let has_ended = loop {
            let process = told.clone();
            let lived = tokio::task::spawn_blocking(move || live(&process)).await;
            let lived = lived.expect("it is awaited");
            let said = String::from_utf8_lossy(&lived.stdout).into_owned();
            went_wrong |= said.contains(mine::WENT_WRONG);
            outcome.flaws = audit(&told, facts, &stores, &self.effects.pool).await;
            if lived.status.success() {
                break true;
            }
            told.life += 1;
            let died = lived.status.signal() == Some(SIGABRT);
            if !died || told.life == LIVES_MAX {
                let error = String::from_utf8_lossy(&lived.stderr).into_owned();
                let tail: Vec<_> = said.lines().chain(error.lines()).rev().take(40).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                let life = format!("life {} ended with {}:\n{tail}", told.life, lived.status);
                outcome.flaws.push(life);
                break false;
            }
            outcome.deaths += 1;
            if !outcome.flaws.is_empty() {
                return outcome;
            }
        };
        if has_ended && !went_wrong {
            outcome.flaws.push("the point was never reached".to_owned());
        }
        let deaths = match case.fault {
            Fault::Kill => 1..=1,
            // What was acknowledged just before the first death does not come again.
            Fault::KillTwice => 1..=2,
            Fault::Error | Fault::ReportedAsFailed | Fault::StandsStill => 0..=0,
        };
        if has_ended && !deaths.contains(&outcome.deaths) {
            outcome.flaws.push(format!("it died {} times, not {deaths:?}", outcome.deaths));
        }
        let effects = if scenario.is_local() { &self.sagas } else { &self.effects };
        let table = format!("{}.effect", effects.schema);
        let judged = judge::judge(scenario, &told.order, &stores, &self.effects.pool, &table).await;
        outcome.flaws.extend(judged);
        outcome
    }
}

fn live(told: &Told) -> Output {
    let mut process = Command::new(env::current_exe().expect("this program"));
    process.args(["--exact", "every_point_survives_death_errors_and_doubt", "--nocapture"]);
    // What it says last is what is wrong.
    process.env("RUST_BACKTRACE", "0");
    told.tell(&mut process);
    process.output().expect("this program can be started")
}

/// Puts in place what the saga starts from, if it is not a caller.
async fn prepare(
    scenario: Scenario,
    order: &str,
    run: usize,
    (sagas, effects): &(PostgresStore, PostgresStore),
) {
    let trouble = trouble(scenario).to_owned();
    let fact = OrderPlaced { order: order.to_owned(), trouble };
    match scenario {
        Scenario::Told => {
            let noted = (1..FACTS).map(|_| {
                let OrderPlaced { order, trouble } = fact.clone();
                OutboxRow::fact(&OrderNoted { order, trouble }, &fact.order)
            });
            let facts = [OutboxRow::fact(&fact, order)].into_iter().chain(noted);
            let outbox = facts.collect::<Result<_, _>>().expect("encodable");
            effects.commit(Tick { outbox, ..Tick::default() }).await.expect("enqueued");
        }
        Scenario::Redriven => {
            let letter = letter(&fact, run);
            let id = letter.id;
            let tick = Tick { dead_letters: vec![letter], ..Tick::default() };
            sagas.commit(tick).await.expect("set aside");
            let (by, reason) = ("ada".to_owned(), "mended".to_owned());
            let redrive = LetterOperation { by, reason, action: LetterAction::Redrive };
            sagas.operate(&redrive, &[(id, Duration::ZERO)]).await.expect("redrive");
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
