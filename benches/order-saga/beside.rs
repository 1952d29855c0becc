//! What goes on in the database beside the work.

use std::time::Duration;

use saga_core::{Retention, RetentionPolicy};
use saga_postgres::PostgresStore;
use sqlx::{Connection as _, PgConnection};

use crate::arguments::Arguments;
use crate::database::METER;
use crate::place::Place;

/// A retention that removes each saga as soon as it has ended, and an old snapshot.
pub(crate) struct Beside {
    retention: Option<Retention>,
    snapshot: Option<PgConnection>,
}

impl Beside {
    pub(crate) async fn start(
        arguments: &Arguments,
        place: &Place,
        store: &PostgresStore,
    ) -> anyhow::Result<Self> {
        let policy = RetentionPolicy::keep_all().ended_sagas(Duration::ZERO);
        let retention = arguments.retention.then(|| Retention::start(store.clone(), policy));
        let snapshot = if arguments.snapshot { Some(snapshot(place).await?) } else { None };
        Ok(Self { retention, snapshot })
    }

    pub(crate) async fn shutdown(self) -> anyhow::Result<()> {
        if let Some(retention) = self.retention {
            retention.shutdown().await?;
        }
        if let Some(snapshot) = self.snapshot {
            snapshot.close().await?;
        }
        Ok(())
    }
}

/// Opens a transaction that keeps the rows of now from being cleaned up.
async fn snapshot(place: &Place) -> anyhow::Result<PgConnection> {
    let mut connection = METER.connect(&place.orchestrator).await?;
    let begin = "begin isolation level repeatable read read only; select txid_current_snapshot()";
    sqlx::raw_sql(begin).execute(&mut connection).await?;
    Ok(connection)
}
