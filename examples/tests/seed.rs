//! Seed data is loaded as often as one likes: what is there stays as it is.

mod support;

use std::process::Stdio;

use examples::{inventory, payments};
use sqlx::{AssertSqlSafe, PgConnection};
use support::database::{Databases, connect};
use support::programs::command;

/// Each service that has seed data, its tables, how much it loads, and what somebody does in between.
const SERVICES: [(&str, &[&str], usize, &str); 2] = [
    (
        "payments",
        &["account", "deposit", "entry", "payment"],
        105,
        "update account set balance_minor = 1 where id = 'customer:u-2'",
    ),
    (
        "inventory",
        &["delivery", "reservation", "stock"],
        3,
        "update stock set on_hand = 1, sold = 2 where sku = 'coffee-beans'",
    ),
];

/// Runs a service with `--seed`, and returns its one line.
fn seed(service: &str, url: &str) -> String {
    let mut program = command(service);
    let program = program.arg("--seed").env("DATABASE_URL", url).env("RUST_LOG", "warn");
    let ended = program.stdin(Stdio::null()).output().expect("the program runs");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && log.is_empty(), "{service}: {log}");
    String::from_utf8(ended.stdout).expect("text")
}

fn says(service: &str, added: usize, kept: usize) -> String {
    format!("{service}: seed data is loaded: {added} added, {kept} there already\n")
}

/// Returns all rows of tables.
async fn rows(db: &mut PgConnection, tables: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for table in tables {
        let rows = format!(
            "select coalesce(jsonb_agg(to_jsonb(it) order by to_jsonb(it)), '[]')::text from {table} it"
        );
        let rows = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(&mut *db).await;
        all.push(rows.expect("the table is there"));
    }
    all
}

#[tokio::test]
async fn twice_is_once() {
    let databases = Databases::new("examples_seed_").await;
    for (service, tables, count, use_some) in SERVICES {
        let url = databases.create(service).await;
        assert_eq!(seed(service, &url), says(service, count, 0), "the database is empty");
        let mut db = connect(&url).await;
        sqlx::query(use_some).execute(&mut db).await.expect("somebody uses it");
        let before = rows(&mut db, tables).await;
        assert_eq!(seed(service, &url), says(service, 0, count));
        assert_eq!(rows(&mut db, tables).await, before, "{service}");
    }
}

#[tokio::test]
async fn what_a_first_start_loaded_is_not_loaded_again() {
    let databases = Databases::new("examples_seeded_").await;
    let url = databases.create("payments").await;
    payments::open(&url).await.expect("a first start");
    let missing = ["entry where account", "deposit where account", "account where id"];
    for what in missing.map(|it| format!("delete from {it} = 'customer:u-poor'")) {
        let db = &mut connect(&url).await;
        sqlx::query(AssertSqlSafe(what)).execute(db).await.expect("somebody deletes it");
    }
    let seeded = payments::seed(&url).await.expect("loaded");
    assert_eq!((seeded.added, seeded.kept), (1, 104), "what is missing is added");

    let url = databases.create("inventory").await;
    inventory::open(&url).await.expect("a first start");
    let seeded = inventory::seed(&url).await.expect("loaded");
    assert_eq!((seeded.added, seeded.kept), (0, 3));
}
