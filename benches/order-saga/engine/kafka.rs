//! The participants as services of their own, each with its database, over Kafka.

use std::time::Instant;

use anyhow::Context as _;
use benches::topics;
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

/// What the names of our topics and groups begin with.
const PREFIX: &str = "order-saga-";

/// An engine, and the services that it sends commands to.
pub(crate) struct Kafka {
    orchestrator: Orchestrator,
    services: Services,
    beside: Beside,
    began: Instant,
}

impl Kafka {
    pub(crate) async fn start(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        let services = Services::start_anew(arguments, place).await?;
        let store = store(&place.orchestrator).await?;
        before::fill(arguments, place, &store, || engine(arguments, &store)).await?;
        let beside = Beside::start(arguments, place, &store).await?;
        let began = Instant::now();
        let orchestrator = Orchestrator { engine: engine(arguments, &store)? };
        Ok(Self { orchestrator, services, beside, began })
    }
}

impl Shop for Kafka {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        self.orchestrator.carry_through(order).await
    }

    fn began(&self) -> Option<Instant> {
        Some(self.began)
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        self.orchestrator.shutdown().await?;
        self.services.shutdown().await?;
        self.beside.shutdown().await
    }
}

/// The services that carry commands out.
pub(crate) struct Services(Vec<RunningParticipant>);

impl Services {
    /// Starts the services once the topics of earlier runs are gone.
    pub(crate) async fn start_anew(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        remove_topics(arguments).await?;
        Self::start(arguments, place).await
    }

    pub(crate) async fn start(arguments: &Arguments, place: &Place) -> anyhow::Result<Self> {
        let mut running = Vec::new();
        let participants = participants(arguments.handlers, &place.effects)?;
        for (participant, url) in participants.into_iter().zip(&place.participants) {
            running.push(participant.start(store(url).await?, transport(arguments)?));
        }
        Ok(Self(running))
    }

    pub(crate) async fn shutdown(self) -> anyhow::Result<()> {
        for participant in self.0 {
            participant.shutdown().await?;
        }
        Ok(())
    }
}

/// An engine whose services run elsewhere.
pub(crate) struct Orchestrator {
    pub(crate) engine: Engine,
}

impl Orchestrator {
    pub(crate) async fn start(arguments: &Arguments, url: &str) -> anyhow::Result<Self> {
        Ok(Self { engine: engine(arguments, &store(url).await?)? })
    }
}

impl Shop for Orchestrator {
    async fn carry_through(&self, order: Order) -> anyhow::Result<bool> {
        carry_through(&self.engine, order).await
    }

    async fn shutdown(self) -> anyhow::Result<()> {
        Ok(self.engine.shutdown().await?)
    }
}

/// Removes the topics and groups of earlier runs.
pub(crate) async fn remove_topics(arguments: &Arguments) -> anyhow::Result<()> {
    topics::remove(arguments.brokers()?, PREFIX).await
}

fn engine(arguments: &Arguments, store: &PostgresStore) -> anyhow::Result<Engine> {
    let builder = Engine::builder(ORCHESTRATOR, store.clone());
    let builder = builder.saga(place_order()?).saga(nap()?);
    Ok(builder.transport(transport(arguments)?).start()?)
}

fn transport(arguments: &Arguments) -> anyhow::Result<KafkaTransport> {
    Ok(KafkaTransport::new(KafkaConfig::new(arguments.brokers()?))?)
}

async fn store(url: &str) -> anyhow::Result<PostgresStore> {
    let store = PostgresStore::connect(&named(url, BACKENDS)).await?;
    store.migrate().await.context("the library's tables cannot be made")?;
    Ok(store)
}
