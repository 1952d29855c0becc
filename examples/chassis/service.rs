//! A service: an HTTP interface, and what works behind it, until a signal ends both.

use std::fmt;
use std::time::Duration;

use axum::middleware::map_response;
use saga_core::{Engine, Error, ParticipantName, Relay, RunningParticipant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use utoipa_axum::router::OpenApiRouter;

use super::broker::Broker;
use super::database::Database;
use super::http::{self, Limits, Tokens};
use super::periodic::Periodic;

/// How long requests are answered at most while what works behind the interface stops.
const DRAIN: Duration = Duration::from_secs(5);

/// A service that is put together and works, but does not answer HTTP yet.
#[must_use = "its interface is not served until `serve` is called"]
pub struct Service {
    name: ParticipantName,
    probes: OpenApiRouter,
    routes: OpenApiRouter,
    is_for_customers: bool,
    tokens: Tokens,
    limits: Limits,
    workers: Vec<Worker>,
    /// Cancelled once the service is to stop.
    draining: CancellationToken,
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
    /// Does something from time to time.
    Periodic(Periodic),
}

impl Service {
    /// Makes a service that answers `/health` and `/ready`, and describes itself at `/docs`.
    pub fn new(name: ParticipantName, database: impl Database, broker: impl Broker) -> Self {
        let draining = CancellationToken::new();
        Self {
            name,
            probes: http::probes(database, broker, draining.clone()),
            routes: OpenApiRouter::new(),
            is_for_customers: false,
            tokens: Tokens::default(),
            limits: Limits::default(),
            workers: Vec::new(),
            draining,
        }
    }

    /// Adds what it answers beside the probes.
    pub fn routes(self, routes: OpenApiRouter) -> Self {
        Self { routes: self.routes.merge(routes), ..self }
    }

    /// Lets customers ask as well: each handler shows them what is theirs, and nothing else.
    pub fn for_customers(self) -> Self {
        Self { is_for_customers: true, ..self }
    }

    /// Asks for one of these tokens, if there are any, before it answers more than the probes.
    pub fn tokens(self, tokens: Tokens) -> Self {
        Self { tokens, ..self }
    }

    /// Sets how much can be asked of it.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Returns a token that is cancelled once the service is to stop: an answer that has no end ends then.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Adds what works in it.
    pub fn worker(mut self, worker: Worker) -> Self {
        self.workers.push(worker);
        self
    }

    /// Serves until `stop` is cancelled, then lets everything finish what it has in hand.
    ///
    /// While the participants and the engine do, for 5 s at most, requests are still answered, and `/ready` says that
    /// others are to be asked. Then the interface ends, and last what publishes the messages of its requests. A service
    /// with nothing in hand ends at once: a balancer that is to notice before has to be told before.
    ///
    /// # Errors
    ///
    /// What made a part of the service stop by itself; the other parts are stopped with it.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        info!(service = %self.name, %address, "serving");
        if self.tokens.is_empty() && !address.ip().is_loopback() {
            warn!(
                "whoever reaches this address may do everything: set API_TOKENS, or unset LISTEN"
            );
        }
        let (mut parts, workers) = (JoinSet::new(), TaskTracker::new());
        let unserved = CancellationToken::new();
        for worker in self.workers {
            match worker {
                // Requests that are answered meanwhile have something to publish.
                Worker::Relay(_) => parts.spawn(worker.run(unserved.clone())),
                _ => parts.spawn(workers.track_future(worker.run(stop.clone()))),
            };
        }
        workers.close();
        let guarded = http::guarded(self.routes, self.tokens, self.is_for_customers, self.limits);
        let guarded = http::observed(guarded);
        let all = self.probes.merge(guarded);
        let router = http::described(self.name.as_str(), all)
            .fallback(http::not_found)
            .method_not_allowed_fallback(http::no_such_method)
            .layer(map_response(http::safe));
        let (draining, asked) = (self.draining, stop.clone());
        let drained = async move {
            asked.cancelled().await;
            draining.cancel();
            // What takes longer is waited for, without requests.
            let _ = tokio::time::timeout(DRAIN, workers.wait()).await;
        };
        let (unserved, patience) = (unserved.drop_guard(), self.limits.patience());
        parts.spawn(async move {
            http::serve(listener, router, patience, drained).await;
            drop(unserved);
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
            Self::Periodic(periodic) => {
                periodic.run(stop).await;
                Ok(())
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
