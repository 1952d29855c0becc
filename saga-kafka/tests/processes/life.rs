//! A process: an engine and a participant, until it is told to stop.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, process, thread};

use saga_core::{Engine, IdempotencyKey};
use saga_postgres::{PostgresStore, SchemaName};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::signal::unix::{SignalKind, signal};

use super::broker;
use super::private::Private;
use super::shop::{Order, OrderPlaced, SHOP, Stock, saga, stock};

const TOLD: &str = "PROCESSES_TOLD";

/// The server ends what it has heard nothing of for twice as long.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);

/// An orderly end takes no longer.
const END: Duration = Duration::from_secs(10);

/// What a process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) url: String,
    pub(crate) sagas: String,
    pub(crate) effects: String,
    pub(crate) prefix: String,
}

impl Told {
    /// Returns what this process was told, if it is one of those that tests start.
    pub(crate) fn here() -> Option<Self> {
        let told = env::var(TOLD).ok()?;
        Some(serde_json::from_str(&told).expect("it was written by this program"))
    }

    /// Returns the stores of the engine and of the participant, on a few connections.
    async fn stores(&self) -> [PostgresStore; 2] {
        let url = format!("{}&options[search_path]={}", self.url, self.effects);
        let pool = PgPoolOptions::new().max_connections(3);
        let store = PostgresStore::connect_with(&url, pool).await.expect("a database");
        let store = store.timeout(STORE_TIMEOUT);
        [&self.sagas, &self.effects]
            .map(|schema| store.clone().schema(SchemaName::parse(schema).expect("a name")))
    }
}

/// Works until it is told to stop.
pub(crate) async fn live(told: &Told) {
    end_with_its_parent();
    let mut stop = signal(SignalKind::terminate()).expect("a signal can be listened to");
    let transport = Private::new(broker::transport().await, &told.prefix);
    let options: PgConnectOptions = told.url.parse().expect("a URL");
    let options = options.options([("search_path", &*told.effects), ("synchronous_commit", "off")]);
    let journal = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let [sagas, effects] = told.stores().await;
    let participant = stock(&Stock { journal }).start(effects, transport.clone());
    let engine = Engine::builder(SHOP, sagas)
        .saga(saga())
        .transport(transport)
        .start_on::<OrderPlaced, Order>(|OrderPlaced(order)| {
            Some((IdempotencyKey::new(&*order.order).ok()?, order))
        })
        .start()
        .expect("the parts fit");
    stop.recv().await;
    let (participant, engine) = tokio::join!(participant.shutdown(), engine.shutdown());
    participant.expect("the participant ends in order");
    engine.expect("the engine ends in order");
}

/// A test that is killed leaves no process behind: its end of the pipe closes.
fn end_with_its_parent() {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(1);
    });
}

/// A process that lives; dropped, it is killed.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(told: &Told) -> Self {
        let mut process = Command::new(env::current_exe().expect("this program"));
        process.args(["--ignored", "--exact", "a_process", "--nocapture"]);
        process.env(TOLD, serde_json::to_string(told).expect("plain data"));
        process.stdin(Stdio::piped()).stdout(Stdio::null());
        Self(process.spawn().expect("this program can be started"))
    }

    pub(crate) fn id(&self) -> i64 {
        self.0.id().into()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status();
        assert!(kill.expect("`kill` can be run").success(), "{name} reaches a process that lives");
    }

    /// Returns true if it has ended by itself.
    pub(crate) fn is_dead(&mut self) -> bool {
        self.0.try_wait().expect("it is a child").is_some()
    }

    /// Tells it to stop, and returns how long it took to end in order.
    pub(crate) async fn stop(self) -> Duration {
        self.signal("TERM");
        self.ended().await
    }

    /// Tells all to stop, at the same time.
    pub(crate) async fn stop_all(processes: Vec<Self>) {
        processes.iter().for_each(|process| process.signal("TERM"));
        for process in processes {
            process.ended().await;
        }
    }

    async fn ended(mut self) -> Duration {
        let began = Instant::now();
        let ended = loop {
            if let Some(ended) = self.0.try_wait().expect("it is a child") {
                break ended;
            }
            assert!(began.elapsed() < END, "it does not end in {END:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(ended.success(), "it ended with {ended}");
        began.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
