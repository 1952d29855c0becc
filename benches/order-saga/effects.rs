//! The table of effects: made, named, and compared with what the orders must have left.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, bail};
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::orders::{AUTHORIZE, CONFIRM, DO, Effect, RESERVE, UNDO};

/// The program's own schema for business tables.
pub(crate) const SCHEMA: &str = "order_saga";

/// The name of a table, quoted.
#[derive(Debug, Clone)]
pub(crate) struct EffectTable {
    quoted: String,
    is_own: bool,
}

impl EffectTable {
    /// The table that the program makes.
    pub(crate) fn own() -> Self {
        Self { quoted: format!("{SCHEMA}.effect"), is_own: true }
    }

    /// A table that exists: `schema.table`, or `table`.
    pub(crate) fn existing(name: &str) -> anyhow::Result<Self> {
        let parts: Vec<_> = name.split('.').collect();
        if parts.len() > 2 || parts.iter().any(|part| part.is_empty() || part.contains('\0')) {
            bail!("`{name}` is not the name of a table: give it as schema.table");
        }
        let quote = |part: &&str| format!("\"{}\"", part.replace('"', "\"\""));
        let quoted = parts.iter().map(quote).collect::<Vec<_>>().join(".");
        Ok(Self { quoted, is_own: false })
    }

    /// Makes the program's own table anew; one that exists is left as it is.
    pub(crate) async fn create(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        if !self.is_own {
            return Ok(());
        }
        let text = format!(
            "drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}; \
             create table {self} (saga_id uuid, step text, kind text default 'do', \
             at timestamptz not null default now(), primary key (saga_id, step, kind))"
        );
        sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await?;
        Ok(())
    }

    /// Takes the effects that are there out of those that are expected.
    ///
    /// In a table of somebody else, effects of other orders are none of ours.
    pub(crate) async fn tick_off(
        &self,
        connection: &mut PgConnection,
        expected: &mut HashSet<Effect>,
        orders: &HashSet<Uuid>,
    ) -> anyhow::Result<()> {
        let text = format!("select saga_id, step, kind from {self}");
        let mut rows = sqlx::query(AssertSqlSafe(text)).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (order, step, kind): (Uuid, &str, &str) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if !self.is_own && !orders.contains(&order) {
                continue;
            }
            let effect = known(step, kind).map(|(step, kind)| Effect { order, step, kind });
            if !effect.is_some_and(|effect| expected.remove(&effect)) {
                bail!("effect `{step}` ({kind}) of order {order} must not be in {self}");
            }
        }
        Ok(())
    }

    /// Removes the effects of some orders.
    pub(crate) async fn remove(
        &self,
        connection: &mut PgConnection,
        orders: &[Uuid],
    ) -> anyhow::Result<()> {
        let text = format!("delete from {self} where saga_id = any($1)");
        sqlx::query(AssertSqlSafe(text)).bind(orders).execute(connection).await?;
        Ok(())
    }
}

/// Fails if an effect is missing.
pub(crate) fn none_missing(expected: &HashSet<Effect>) -> anyhow::Result<()> {
    let Some(first) = expected.iter().min() else { return Ok(()) };
    let Effect { order, step, kind } = first;
    bail!("{} effects are missing, such as `{step}` ({kind}) of order {order}", expected.len())
}

fn known(step: &str, kind: &str) -> Option<(&'static str, &'static str)> {
    let step = [RESERVE, AUTHORIZE, CONFIRM].into_iter().find(|it| *it == step)?;
    let kind = [DO, UNDO].into_iter().find(|it| *it == kind)?;
    Some((step, kind))
}

impl fmt::Display for EffectTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quoted)
    }
}

/// Makes sure that a table of somebody else is there before anything is started.
pub(crate) async fn check(
    table: &EffectTable,
    connection: &mut PgConnection,
) -> anyhow::Result<()> {
    let text = format!("select saga_id, step, kind from {table} limit 0");
    let asked = sqlx::query(AssertSqlSafe(text)).execute(connection).await;
    asked.with_context(|| {
        format!("{table} must have the columns saga_id uuid, step text and kind text")
    })?;
    Ok(())
}
