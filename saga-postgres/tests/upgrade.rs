//! A dump of each released schema still opens: sagas that were started by it go on.
//!
//! After a new migration, write its dump with
//! `WRITE_DUMP=1 cargo test -p saga-postgres --test upgrade`; a dump of a release never changes.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use saga_core::machine::Status;
use saga_core::participant::{Handled, InboxRecord};
use saga_core::store::{
    Commit, Lane, NewSaga, OutboxRow, SagaFilter, Tick, Transactional, Version, WakeAt,
};
use saga_core::{
    IdempotencyKey, Inbox, MessageId, Outbox, OutboxId, SagaId, SagaName, SagaStore, Timestamp,
};
use saga_postgres::PostgresStore;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use support::{database, dead_letter, next, pool, tick};
use uuid::Uuid;

const RUNNING: SagaId = SagaId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
const ENDED: SagaId = SagaId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002));
const COMMAND: MessageId = MessageId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0003));
const ROW: OutboxId = OutboxId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0004));
const WAKE_AT: Timestamp = Timestamp::from_micros(1_767_225_600_123_456);
const NAME: SagaName = SagaName::new("place-order");

fn key() -> IdempotencyKey {
    IdempotencyKey::new("order 1 \u{fc}").expect("a key")
}

fn new(key: Option<IdempotencyKey>) -> NewSaga {
    NewSaga { name: NAME, definition_version: 2, fingerprint: u64::MAX - 1, key, home: 3 }
}

fn row() -> OutboxRow {
    OutboxRow { id: ROW, lane: Lane::application(), body: "waits\0\u{ff}".into() }
}

fn record() -> InboxRecord {
    InboxRecord { command: COMMAND, reply: "reserved\0".into() }
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file"));
    let mut files: Vec<_> = files.map(|entry| entry.path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

/// F69, I17.
#[tokio::test]
async fn a_dump_of_each_released_schema_still_opens() {
    if std::env::var_os("WRITE_DUMP").is_some() {
        write_the_dump().await;
    }
    let dumps = files("tests/fixtures", ".sql");
    assert_eq!(dumps.len(), files("migrations", ".sql").len(), "each migration has a dump");
    for dump in dumps {
        restore(&dump).await;
        let store = PostgresStore::new(pool().await);
        store.migrate().await.unwrap_or_else(|error| panic!("{}: {error}", dump.display()));
        everything_is_there(&store).await;
        sagas_go_on(&store).await;
    }
}

async fn restore(dump: &Path) {
    let text = std::fs::read_to_string(dump).expect("a dump");
    // The dump changes settings of its session.
    let mut connection = database().await.connect().await.expect("connect");
    let drop = "drop schema if exists saga cascade";
    sqlx::raw_sql(drop).execute(&mut connection).await.expect("drop");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("restore");
}

async fn everything_is_there(store: &PostgresStore) {
    let mut sagas = store.load(&[RUNNING, ENDED]).await.expect("load");
    sagas.sort_by_key(|snapshot| snapshot.saga);
    let [running, ended] = sagas.try_into().expect("two sagas");
    assert_eq!((running.saga, running.version), (RUNNING, Version(2)));
    assert_eq!(running.new, new(Some(key())));
    assert_eq!((running.status, running.wake_at), (Status::Compensating, Some(WAKE_AT)));
    assert_eq!(running.state, "state 2");
    assert_eq!((ended.saga, ended.version, ended.new), (ENDED, Version(1), new(None)));
    assert_eq!((ended.status, ended.wake_at), (Status::Completed, None));

    let found = store.find(&[(NAME, key())]).await.expect("find");
    assert_eq!(found, [(NAME, key(), RUNNING)]);
    let listed = store.list(&SagaFilter::all(), None, 10).await.expect("list");
    let listed: Vec<_> = listed.iter().map(|listed| listed.saga).collect();
    assert_eq!(listed, [ENDED, RUNNING]);
    let history = store.history(RUNNING).await.expect("history");
    let entries: Vec<_> = history.iter().map(|record| record.entries.as_ref()).collect();
    assert_eq!(entries, [b"history 1", b"history 2"]);
    let due = store.due(Duration::ZERO, 10).await.expect("due");
    assert_eq!(due.sagas.len(), 1, "{due:?}");
    assert_eq!((due.sagas[0].saga, due.sagas[0].wake_at), (RUNNING, WAKE_AT));
    assert_eq!(store.unsent(&[Lane::application()], 10_000).await.expect("unsent"), [row()]);
    let mut transaction = store.begin().await.expect("begin");
    let recorded = store.recorded(&mut transaction, &[COMMAND]).await.expect("recorded");
    assert_eq!(recorded.records, [record()]);
}

async fn sagas_go_on(store: &PostgresStore) {
    let goes_on = Commit { history: "history 3".into(), ..next(RUNNING, 2) };
    let again = Tick {
        sent: vec![ROW],
        // Set aside by the release before: it stays as it was.
        dead_letters: vec![dead_letter(7)],
        ..tick([goes_on])
    };
    store.commit(again).await.expect("commit");
    assert_eq!(store.load(&[RUNNING]).await.expect("load")[0].version, Version(3));
    assert!(store.unsent(&[Lane::application()], 10_000).await.expect("unsent").is_empty());
    let letters = sqlx::query_scalar("select count(*) from saga.dead_letter");
    let letters: i64 = letters.fetch_one(&pool().await).await.expect("count");
    assert_eq!(letters, 1);
}

async fn write_the_dump() {
    let store = PostgresStore::new(pool().await);
    store.migrate().await.expect("migrate");
    let running = Commit {
        saga: RUNNING,
        expected: Version(0),
        new: Some(new(Some(key()))),
        status: Status::Running,
        wake_at: WakeAt::At(WAKE_AT),
        state: "state 1".into(),
        history: "history 1".into(),
    };
    let ended =
        Commit { saga: ENDED, new: Some(new(None)), status: Status::Completed, ..running.clone() };
    store.commit(tick([running, ended])).await.expect("start");
    let step = Commit {
        status: Status::Compensating,
        state: "state 2".into(),
        history: "history 2".into(),
        ..next(RUNNING, 1)
    };
    let dead_letters = vec![dead_letter(7)];
    let whole = Tick { outbox: vec![row()], dead_letters, ..tick([step]) };
    store.commit(whole).await.expect("step");
    let transaction = store.begin().await.expect("begin");
    let handled = Handled { records: vec![record()], ..Handled::default() };
    store.record(transaction, handled).await.expect("record");

    let mut url = database().await.to_url_lossy();
    // Parameters of another client.
    url.set_query(None);
    let mut dump = Command::new("pg_dump");
    dump.args(["--schema=saga", "--inserts", "--no-owner", "--no-privileges"]);
    // Not every server has LZ4.
    dump.args(["--no-toast-compression", "--dbname", url.as_str()]);
    let dump = dump.output().expect("pg_dump");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    // Lines for psql, and comments that name the server.
    let text = String::from_utf8(dump.stdout).expect("text");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('\\') && !line.starts_with("-- Dumped"))
        .collect();
    let number = files("migrations", ".sql").len();
    let file = format!("{}/tests/fixtures/{number:04}.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(file, lines.join("\n") + "\n").expect("write");
}
