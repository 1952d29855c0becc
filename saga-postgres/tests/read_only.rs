//! A database that only reads for a while. Alone in its program, and so in its database.

#[path = "support/shop.rs"]
mod shop;
mod support;
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use support::database;
use world::{Stand, World};

/// Lets connections that are made from now on only read, as those to a server that was demoted, or
/// write again, as those to its successor. Those that are open stay what they are.
async fn only_read(only_reads: bool) {
    let database = database().await.options([("default_transaction_read_only", "off")]);
    let mut connection = PgConnection::connect_with(&database).await.expect("connect");
    let name = "select current_database()";
    let name: String = sqlx::query_scalar(name).fetch_one(&mut connection).await.expect("a name");
    let setting =
        format!("alter database \"{name}\" set default_transaction_read_only = {only_reads}");
    let setting = sqlx::AssertSqlSafe(setting);
    sqlx::raw_sql(setting).execute(&mut connection).await.expect("a setting");
}

/// Counts the connections that only read.
async fn that_only_read(connections: &mut [Transaction<'static, Postgres>]) -> usize {
    let mut count = 0;
    for connection in connections {
        let answer = sqlx::query_scalar("show transaction_read_only");
        let answer: String = answer.fetch_one(&mut **connection).await.expect("an answer");
        count += usize::from(answer == "on");
    }
    count
}

async fn be_demoted(stand: Stand) {
    let world = World::new(8, stand).await;
    world.place("warm", 20, async {}).await;
    for round in 0..3 {
        world
            .place(&format!("demoted-{round}"), 100, async {
                world.half_is_done(100).await;
                // What is demoted cuts its connections, all of them.
                world.proxy.refuse();
                only_read(true).await;
                while world.kill().await > 0 {}
                world.proxy.pass();
                tokio::time::sleep(Duration::from_secs(2)).await;
                let mut all = world.take_all().await;
                assert_ne!(that_only_read(&mut all).await, 0, "some must be to the demoted server");
                only_read(false).await;
                // Nobody cuts these, and they would only ever read.
                drop(all);
                let mut all = world.take_all().await;
                assert_eq!(that_only_read(&mut all).await, 0, "the pool must have replaced them");
            })
            .await;
    }
    world.all_is_done_once(320).await;
    world.end().await;
}

/// F47, I4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f47_a_database_that_only_reads_uses_up_no_attempt() {
    be_demoted(Stand::Apart).await;
    be_demoted(Stand::Inside).await;
}
