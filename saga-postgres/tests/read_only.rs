//! A database that only reads for a while. Alone in its program, and so in its database.

#[path = "support/shop.rs"]
mod shop;
mod support;
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use support::database;
use world::{Stand, World};

/// Lets the database only read, as one that was demoted, and write again, as its successor.
async fn only_read(world: &World, only_reads: bool) {
    let database = database().await.options([("default_transaction_read_only", "off")]);
    let mut connection = PgConnection::connect_with(&database).await.expect("connect");
    let name = "select current_database()";
    let name: String = sqlx::query_scalar(name).fetch_one(&mut connection).await.expect("a name");
    let settings = format!(
        "alter database \"{name}\" set default_transaction_read_only = {only_reads}; \
         select pg_terminate_backend(pid) from pg_stat_activity \
         where application_name = '{}'",
        world.fresh.schema
    );
    // What was demoted cuts its connections.
    let settings = sqlx::AssertSqlSafe(settings);
    sqlx::raw_sql(settings).execute(&mut connection).await.expect("settings");
}

async fn be_demoted(stand: Stand) {
    let world = World::new(8, stand).await;
    world.place("warm", 20, async {}).await;
    for round in 0..3 {
        world
            .place(&format!("demoted-{round}"), 100, async {
                world.half_is_done(100).await;
                only_read(&world, true).await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                only_read(&world, false).await;
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
