//! The participants inside the engine: each step's effect is committed with the saga's progress.

use std::time::Instant;

use saga_core::Engine;
use saga_postgres::{PostgresStore, SchemaName};

use super::carry_through;
use crate::arguments::Arguments;
use crate::before;
use crate::beside::Beside;
use crate::closed_loop::Shop;
use crate::database::{BACKENDS, METER, drop_schema, named};
use crate::handlers::participants;
use crate::orders::Order;
use crate::place::Place;
use crate::saga::{ORCHESTRATOR, nap, place_order};

/// Where the library's tables are.
const SCHEMA: SchemaName = SchemaName::new("order_saga_engine");

/// An engine with its participants.
pub(crate) struct Local {
    engine: Engine,
    beside: Beside,
    began: Instant,
}

impl Local {
    pub(crate) async fn start(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        let mut admin = METER.connect(&place.orchestrator).await?;
        drop_schema(&mut admin, SCHEMA.as_str()).await?;
        let url = named(&place.orchestrator, BACKENDS);
        let store = PostgresStore::connect(&url).await?.schema(SCHEMA);
        store.migrate().await?;
        let engine = || -> anyhow::Result<Engine> {
            let mut builder = Engine::builder(ORCHESTRATOR, store.clone());
            builder = builder.saga(place_order()?).saga(nap()?);
            for participant in participants(arguments.handlers, &place.effects)? {
                builder = builder.local(participant);
            }
            Ok(builder.start()?)
        };
        before::fill(arguments, place, &store, engine).await?;
        let beside = Beside::start(arguments, place, &store).await?;
        let began = Instant::now();
        Ok(Self { engine: engine()?, beside, began })
    }
}

impl Shop for Local {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        carry_through(&self.engine, order).await
    }

    fn began(&self) -> Option<Instant> {
        Some(self.began)
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        self.engine.shutdown().await?;
        self.beside.shutdown().await
    }
}
