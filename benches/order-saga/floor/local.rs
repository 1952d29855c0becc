//! Micro-batches in SQL: whatever came while a batch was in flight is the next one.
//!
//! Each order is a row that each step moves on, in one transaction with the step's effect. A batch
//! is one statement, which is one round trip and one commit.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::path::path;
use crate::closed_loop::Shop;
use crate::database::{BACKENDS, METER};
use crate::effects::{EffectTable, SCHEMA};
use crate::orders::Order;
use crate::place::Place;

/// The most orders that a batch moves.
const BATCH_MAX: usize = 512;

/// Rows are looked up one by one in an index: a plan that is made while a table is small reads all
/// of it, and is kept.
pub(super) const PLANS: &str = "set jit = off; set enable_seqscan = off; \
    set enable_hashjoin = off; set enable_mergejoin = off; set plan_cache_mode = force_generic_plan";

/// A loop that moves orders.
pub(crate) struct Local {
    requests: mpsc::UnboundedSender<Moving>,
    mover: JoinHandle<anyhow::Result<()>>,
}

/// An order under way.
struct Moving {
    order: Order,
    /// How many moves were committed; the first stores the order.
    moves: usize,
    ended: oneshot::Sender<bool>,
}

impl Moving {
    const fn has_ended(&self) -> bool {
        self.moves > path(&self.order).len()
    }
}

impl Local {
    pub(crate) async fn start(place: &Place) -> anyhow::Result<Self> {
        let mut admin = METER.connect(&place.orchestrator).await?;
        let create = format!(
            "drop table if exists {SCHEMA}.floor; create table {SCHEMA}.floor \
             (id uuid primary key, moves smallint not null, has_ended boolean not null, \
              input bytea not null) with (fillfactor = 50)"
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
        let pool = BACKENDS.pool(&place.orchestrator, 1).await?;
        sqlx::raw_sql(PLANS).execute(&pool).await?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let mover = tokio::spawn(move_all(pool, receiver, statement(&place.effects)));
        Ok(Self { requests, mover })
    }
}

impl Shop for Local {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        let (ended, end) = oneshot::channel();
        let stopped = || anyhow!("the floor's loop stopped");
        let moving = Moving { order, moves: 0, ended };
        self.requests.send(moving).map_err(|_| stopped())?;
        end.await.map_err(|_| stopped())
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        drop(self.requests);
        self.mover.await.context("the floor's loop panicked")?
    }
}

async fn move_all(
    pool: PgPool,
    mut requests: mpsc::UnboundedReceiver<Moving>,
    statement: SqlStr,
) -> anyhow::Result<()> {
    let mut under_way: Vec<Moving> = Vec::new();
    loop {
        if under_way.is_empty() {
            let Some(first) = requests.recv().await else { break };
            under_way.push(first);
        }
        while under_way.len() < BATCH_MAX
            && let Ok(request) = requests.try_recv()
        {
            under_way.push(request);
        }
        move_on(&pool, &statement, &mut under_way).await?;
        for moving in under_way.extract_if(.., |it| it.has_ended()) {
            let is_confirmed = !moving.order.is_declined();
            let _ = moving.ended.send(is_confirmed);
        }
    }
    pool.close().await;
    Ok(())
}

/// Moves each order one step on, in one commit.
async fn move_on(pool: &PgPool, statement: &SqlStr, orders: &mut [Moving]) -> anyhow::Result<()> {
    let (mut new, mut inputs) = (Vec::new(), Vec::new());
    let (mut moved, mut ended): (Vec<Uuid>, Vec<bool>) = (Vec::new(), Vec::new());
    let (mut done, mut steps, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for moving in orders {
        let id = moving.order.id;
        if moving.moves == 0 {
            new.push(id);
            inputs.push([b'x'; 256]);
        } else {
            let path = path(&moving.order);
            let step = &path[moving.moves - 1];
            if !step.is_declined {
                done.push(id);
                steps.push(step.name);
                kinds.push(step.kind);
            }
            moved.push(id);
            ended.push(moving.moves == path.len());
        }
        moving.moves += 1;
    }
    let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
    let query = sqlx::query(statement.clone()).bind(new).bind(inputs).bind(moved).bind(ended);
    query.bind(done).bind(steps).bind(kinds).execute(pool).await?;
    Ok(())
}

fn statement(table: &EffectTable) -> SqlStr {
    let text = format!(
        "with new as (insert into {SCHEMA}.floor (id, moves, has_ended, input) \
             select id, 0, false, input from unnest($1::uuid[], $2::bytea[]) as u (id, input)), \
         moved as (update {SCHEMA}.floor f set moves = f.moves + 1, has_ended = u.has_ended \
             from unnest($3::uuid[], $4::boolean[]) as u (id, has_ended) where f.id = u.id) \
         insert into {table} (saga_id, step, kind) \
         select * from unnest($5::uuid[], $6::text[], $7::text[])"
    );
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}
