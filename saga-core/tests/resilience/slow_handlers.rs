//! Handlers that take long or never answer: they are given up, and others go on.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use saga_core::machine::HistoryKind;
use saga_core::message::Outcome;
use saga_core::{
    Context, Engine, Handle, HandleExternal, HandlerResult, IdempotencyKey, MemoryTransport,
    Participant, Reply, Status,
};
use tokio::time::timeout;

use crate::killers::replies;
use crate::support::{Conn, Db, Done, Reserve, SHOP, STOCK, ended, key, order};
use crate::{database, one_step, reserve, send, until_done};

/// Takes a second for each order, and for ever for one in trouble.
#[derive(Clone)]
struct Slow {
    db: Db,
    begun: Arc<AtomicUsize>,
    /// Most commands that were begun and not yet committed, after the first hundred.
    most_open: Arc<AtomicUsize>,
}

impl Slow {
    fn new(db: &Db) -> Self {
        Self { db: db.clone(), begun: Arc::default(), most_open: Arc::default() }
    }
}

impl Handle<Reserve, Conn> for Slow {
    async fn handle(&self, command: Reserve, cx: &mut Context<'_, Conn>) -> HandlerResult<Done> {
        let begun = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if begun > 100 {
            self.most_open.fetch_max(begun - self.db.read(Vec::len), Ordering::SeqCst);
        }
        match command.trouble.as_str() {
            "hang" => pending().await,
            "hang once" if begun == 1 => pending().await,
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
        cx.connection().push(format!("reserve {}", command.order));
        Ok(Reply::succeeded(Done {}))
    }
}

impl HandleExternal<Reserve> for Slow {
    async fn call(&self, command: Reserve, _: IdempotencyKey) -> HandlerResult<Done> {
        if command.trouble == "hang" {
            pending::<()>().await;
        }
        Ok(Reply::succeeded(Done {}))
    }
}

/// F73: what a handler takes for its commands is bounded, also if a whole batch came at once.
#[tokio::test(start_paused = true)]
async fn f73_a_slow_participant_soon_commits_each_command_on_its_own() {
    const COMMANDS: usize = 600;
    let (transport, db) = (MemoryTransport::new(), database());
    let slow = Slow::new(&db);
    send(&transport, (0..COMMANDS).map(|n| reserve(&format!("o-{n}"), "")).collect()).await;
    let participant = Participant::builder(STOCK).handle::<Reserve>(slow.clone());
    let participant = participant.build().expect("sound").start(db.clone(), transport);
    while db.read(Vec::len) < COMMANDS {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    participant.shutdown().await.expect("an orderly end");
    assert_eq!(slow.begun.load(Ordering::SeqCst), COMMANDS, "each once");
    assert!(slow.most_open.load(Ordering::SeqCst) <= 2, "a transaction holds few of them");
}

/// F73: three quick tries of a transactional handler, then the saga's policy decides.
#[tokio::test(start_paused = true)]
async fn f73_a_handler_that_hangs_is_given_up_and_its_neighbours_are_carried_out() {
    let (transport, db) = (MemoryTransport::new(), database());
    let hanging = reserve("o-1", "hang");
    send(&transport, vec![reserve("o-0", ""), hanging.clone(), reserve("o-2", "")]).await;
    let participant = Participant::builder(STOCK)
        .handle::<Reserve>(Slow::new(&db))
        .handler_timeout(Duration::from_secs(5));
    let participant = participant.build().expect("sound").start(db.clone(), transport.clone());
    tokio::time::timeout(Duration::from_mins(1), async {
        while db.read(Vec::len) < 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
    .expect("the others are carried out");
    let replies = replies(&transport, &hanging).await;
    let [Outcome::FailedTransiently(problem)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(problem, "no answer within 5s");
    participant.shutdown().await.expect("an orderly end");
}

/// F73: a call to another system that hangs is answered as failed, and nothing is recorded of it.
#[tokio::test(start_paused = true)]
async fn f73_a_call_that_hangs_is_given_up() {
    let (transport, db) = (MemoryTransport::new(), database());
    let hanging = reserve("o-1", "hang");
    send(&transport, vec![hanging.clone()]).await;
    let participant = Participant::builder(STOCK)
        .handle_external::<Reserve>(Slow::new(&db))
        .handler_timeout(Duration::from_secs(5));
    let participant = participant.build().expect("sound").start(db, transport.clone());
    let replies = replies(&transport, &hanging).await;
    let [Outcome::FailedTransiently(problem)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(problem, "no answer within 5s");
    participant.shutdown().await.expect("an orderly end");
}

/// F73: nor does one inside the engine keep many waiting for a commit, and who waits for its turn is not
/// out of time.
#[tokio::test(start_paused = true)]
async fn f73_a_slow_local_participant_soon_commits_each_command_on_its_own() {
    const SAGAS: usize = 300;
    let db = database();
    let slow = Slow::new(&db);
    let stock = Participant::builder(STOCK).handle::<Reserve>(slow.clone());
    let stock = stock.build().expect("sound");
    let engine = Engine::builder(SHOP, db.clone()).saga(one_step()).local(stock);
    let engine = engine.start().expect("the parts fit");
    let names: Vec<_> = (0..SAGAS).map(|n| format!("o-{n}")).collect();
    let sagas = join_all(names.iter().map(async |it| {
        let saga = engine.start(key(it), order(it, "")).await.expect("accepted").saga();
        assert_eq!(engine.outcome(saga).await.expect("an end"), Status::Completed);
        saga
    }));
    for saga in timeout(Duration::from_mins(10), sagas).await.expect("a second for each") {
        let history = engine.history(saga).await.expect("a history");
        assert!(!history.iter().any(|it| it.kind == HistoryKind::TimedOut), "{history:?}");
    }
    assert_eq!(slow.begun.load(Ordering::SeqCst), SAGAS, "each once");
    assert!(slow.most_open.load(Ordering::SeqCst) <= 2, "a transaction holds few of them");
}

/// F73: a participant inside the engine holds the engine for no longer than its limit.
#[tokio::test(start_paused = true)]
async fn f73_a_local_handler_that_hangs_uses_up_an_attempt() {
    let db = database();
    let stock = Participant::builder(STOCK).handle::<Reserve>(Slow::new(&db));
    let stock = stock.handler_timeout(Duration::from_secs(5)).build().expect("sound");
    let engine = Engine::builder(SHOP, db.clone()).saga(one_step()).local(stock);
    let engine = engine.start().expect("the parts fit");
    let saga = engine.start(key("o-1"), order("o-1", "hang once")).await.expect("accepted").saga();
    assert_eq!(ended(&engine, saga).await, Status::Completed);
    let history = engine.history(saga).await.expect("a history");
    let failed = history.iter().filter(|it| it.kind == HistoryKind::AttemptFailed).count();
    assert_eq!(failed, 1, "{history:?}");
    until_done(&db, "reserve o-1").await;
}
