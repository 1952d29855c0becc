//! A service: an HTTP interface, and what works behind it, until a signal ends both.

use std::fmt;

use saga_core::{Engine, Error, ParticipantName, Relay, RunningParticipant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;
use utoipa_axum::router::OpenApiRouter;

use super::database::Database;
use super::http;

/// A service that is put together and works, but does not answer HTTP yet.
#[must_use = "its interface is not served until `serve` is called"]
pub struct Service {
    name: ParticipantName,
    routes: OpenApiRouter,
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
    /// Makes a service that answers `/health` and `/ready`, and describes itself at `/docs`.
    pub fn new(name: ParticipantName, database: impl Database) -> Self {
        Self { name, routes: http::probes(database), workers: Vec::new() }
    }

    /// Adds what it answers beside the probes.
    pub fn routes(self, routes: OpenApiRouter) -> Self {
        Self { routes: self.routes.merge(http::guarded(routes)), ..self }
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
        let router = http::described(self.name.as_str(), self.routes).fallback(http::not_found);
        let server = http::serve(listener, router, stop.clone());
        parts.spawn(async {
            server.await;
            Ok(())
        });

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

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}
