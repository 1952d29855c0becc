//! The participants as services of their own, each with its database, over Kafka.

use std::time::Instant;

use anyhow::Context as _;
use saga_core::{Engine, RunningParticipant};
use saga_kafka::{KafkaConfig, KafkaTransport};
use saga_postgres::PostgresStore;

use super::carry_through;
use crate::arguments::Arguments;
use crate::before;
use crate::beside::Beside;
use crate::closed_loop::Shop;
use crate::database::{BACKENDS, named};
use crate::handlers::participants;
use crate::orders::Order;
use crate::place::Place;
use crate::saga::{ORCHESTRATOR, nap, place_order};
use crate::topics;

/// What the names of our topics and groups begin with.
const PREFIX: &str = "order-saga-";

/// An engine, and the services that it sends commands to.
pub(crate) struct Kafka {
    engine: Engine,
    participants: Vec<RunningParticipant>,
    beside: Beside,
    began: Instant,
}

impl Kafka {
    pub(crate) async fn start(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        let brokers = arguments.brokers()?;
        topics::remove(brokers, PREFIX).await?;
        let transport = || KafkaTransport::new(KafkaConfig::new(brokers));
        let mut running = Vec::new();
        let participants = participants(arguments.handlers, &place.effects)?;
        for (participant, url) in participants.into_iter().zip(&place.participants) {
            running.push(participant.start(store(url).await?, transport()?));
        }
        let store = store(&place.orchestrator).await?;
        let engine = || -> anyhow::Result<Engine> {
            let builder = Engine::builder(ORCHESTRATOR, store.clone());
            let builder = builder.saga(place_order()?).saga(nap()?);
            Ok(builder.transport(transport()?).start()?)
        };
        before::fill(arguments, place, &store, engine).await?;
        let beside = Beside::start(arguments, place, &store).await?;
        let began = Instant::now();
        Ok(Self { engine: engine()?, participants: running, beside, began })
    }
}

async fn store(url: &str) -> anyhow::Result<PostgresStore> {
    let store = PostgresStore::connect(&named(url, BACKENDS)).await?;
    store.migrate().await.context("the library's tables cannot be made")?;
    Ok(store)
}

impl Shop for Kafka {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        carry_through(&self.engine, order).await
    }

    fn began(&self) -> Option<Instant> {
        Some(self.began)
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        self.engine.shutdown().await?;
        for participant in self.participants {
            participant.shutdown().await?;
        }
        self.beside.shutdown().await
    }
}
