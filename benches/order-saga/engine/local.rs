//! The participants inside the engine: each step's effect is committed with the saga's progress.

use anyhow::bail;
use saga_core::{Engine, IdempotencyKey, Status};
use saga_postgres::{PostgresStore, SchemaName};

use crate::arguments::Arguments;
use crate::closed_loop::Shop;
use crate::database::{BACKENDS, METER, drop_schema, named};
use crate::effects::EffectTable;
use crate::handlers::participants;
use crate::orders::Order;
use crate::saga::{ORCHESTRATOR, OrderData, place_order};

/// Where the library's tables are.
const SCHEMA: SchemaName = SchemaName::new("order_saga_engine");

/// An engine with its participants.
pub(crate) struct Local {
    engine: Engine,
}

impl Local {
    pub(crate) async fn start(arguments: &Arguments, table: &EffectTable) -> anyhow::Result<Self> {
        let mut admin = METER.connect(&arguments.database_url).await?;
        drop_schema(&mut admin, SCHEMA.as_str()).await?;
        let url = named(&arguments.database_url, BACKENDS);
        let store = PostgresStore::connect(&url).await?.schema(SCHEMA);
        store.migrate().await?;
        let mut builder = Engine::builder(ORCHESTRATOR, store).saga(place_order()?);
        for participant in participants(arguments.handlers, table)? {
            builder = builder.local(participant);
        }
        Ok(Self { engine: builder.start()? })
    }

    pub(crate) async fn shutdown(self) -> anyhow::Result<()> {
        Ok(self.engine.shutdown().await?)
    }
}

impl Shop for Local {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        carry_through(&self.engine, order).await
    }
}

/// Starts a saga and waits for its end.
pub(crate) async fn carry_through(engine: &Engine, order: Order) -> anyhow::Result<bool> {
    let key = IdempotencyKey::new(order.id.to_string())?;
    let started = engine.start(key, OrderData::from(order)).await?;
    match started.outcome().await? {
        Status::Completed => Ok(true),
        Status::Compensated => Ok(false),
        status => bail!("saga {} of order {} is {status:?}", started.saga(), order.id),
    }
}
