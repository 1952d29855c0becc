//! A service: an HTTP interface, and what works behind it, until a signal ends both.

use axum::Router;
use saga_core::{Engine, Error, ParticipantName, Relay, RunningParticipant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::database::Database;
use super::http;

/// A service that is put together and works, but does not answer HTTP yet.
#[must_use = "its interface is not served until `serve` is called"]
#[derive(Debug)]
pub struct Service {
    name: ParticipantName,
    router: Router,
    workers: Vec<Worker>,
}

/// What works in a service, beside its HTTP interface.
#[derive(Debug)]
pub enum Worker {
    /// Carries out commands.
    Participant(RunningParticipant),
    /// Runs sagas.
    Engine(Engine),
    /// Publishes what the service enqueues.
    Relay(Relay),
}

impl Service {
    /// Makes a service that answers `/health` and `/ready`.
    pub fn new(name: ParticipantName, database: impl Database) -> Self {
        let router = http::probes(database);
        Self { name, router, workers: Vec::new() }
    }

    /// Adds what it answers beside the probes.
    pub fn routes(self, router: Router) -> Self {
        Self { router: self.router.merge(router), ..self }
    }

    /// Adds what works in it.
    pub fn worker(mut self, worker: Worker) -> Self {
        self.workers.push(worker);
        self
    }

    /// Serves until `stop` is cancelled, then lets everything finish what it has in hand.
    ///
    /// # Errors
    ///
    /// What made a part of the service stop by itself; the other parts are stopped with it.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        info!(service = %self.name, address = %listener.local_addr()?, "serving");
        let mut parts = JoinSet::new();
        for worker in self.workers {
            parts.spawn(worker.run(stop.clone()));
        }
        let router = self.router.fallback(http::not_found);
        let server =
            axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        parts.spawn(async { Ok(server.await?) });

        let mut result = Ok(());
        while let Some(ended) = parts.join_next().await {
            result = result.and(ended.map_err(anyhow::Error::from).flatten());
            // Half a service would look like a whole one.
            stop.cancel();
        }
        info!(service = %self.name, "stopped");
        result
    }
}

impl Worker {
    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let ended: Result<(), Error> = match self {
            Self::Participant(mut participant) => tokio::select! {
                ended = participant.stopped() => ended,
                () = stop.cancelled() => participant.shutdown().await,
            },
            Self::Engine(engine) => tokio::select! {
                ended = engine.stopped() => ended,
                () = stop.cancelled() => engine.shutdown().await,
            },
            Self::Relay(relay) => {
                stop.cancelled().await;
                relay.shutdown().await
            }
        };
        Ok(ended?)
    }
}
