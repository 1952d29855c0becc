//! The participants inside the engine: each step's effect is committed with the saga's progress.

use saga_core::Engine;
use saga_postgres::{PostgresStore, SchemaName};

use super::carry_through;
use crate::arguments::Arguments;
use crate::closed_loop::Shop;
use crate::database::{BACKENDS, METER, drop_schema, named};
use crate::finished;
use crate::handlers::participants;
use crate::orders::Order;
use crate::place::Place;
use crate::saga::{ORCHESTRATOR, place_order};

/// Where the library's tables are.
const SCHEMA: SchemaName = SchemaName::new("order_saga_engine");

/// An engine with its participants.
pub(crate) struct Local {
    engine: Engine,
}

impl Local {
    pub(crate) async fn start(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        let mut admin = METER.connect(&place.orchestrator).await?;
        drop_schema(&mut admin, SCHEMA.as_str()).await?;
        let url = named(&place.orchestrator, BACKENDS);
        let store = PostgresStore::connect(&url).await?.schema(SCHEMA);
        store.migrate().await?;
        let mut builder = Engine::builder(ORCHESTRATOR, store.clone()).saga(place_order()?);
        for participant in participants(arguments.handlers, &place.effects)? {
            builder = builder.local(participant);
        }
        let engine = builder.start()?;
        finished::fill(arguments, place, &engine, &store).await?;
        Ok(Self { engine })
    }
}

impl Shop for Local {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        carry_through(&self.engine, order).await
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        Ok(self.engine.shutdown().await?)
    }
}
