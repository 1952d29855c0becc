//! The orders service as a program of its own, on Kafka and PostgreSQL; or, with neither set, all
//! four services in this process, and a story.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use chassis::config::{self, Backends, Config};
use chassis::http::Client;
use chassis::{start_up, telemetry};
use examples::contract::ORDERS;
use examples::orders::{self, story, together::Together};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start_up::exit(ORDERS, run().await)
}

async fn run() -> anyhow::Result<()> {
    let mut config = Config::read(8001)?;
    match config.backends.take() {
        Some(backends) => alone(&config, &backends).await,
        None => all_four(&config).await,
    }
}

/// The orders service, on its own database and the brokers.
async fn alone(config: &Config, backends: &Backends) -> anyhow::Result<()> {
    start_up::log(start_up::INFO);
    let _telemetry = telemetry::install(&ORDERS)?;
    let url = config::variable("ORCHESTRATOR_URL")?;
    let url = url.as_deref().unwrap_or("http://127.0.0.1:8004");
    let mut orchestrator =
        Client::new(url).map_err(anyhow::Error::msg).context("ORCHESTRATOR_URL cannot be used")?;
    if let Some(token) = config::variable("ORCHESTRATOR_TOKEN")? {
        let asking = orchestrator.token(&token).map_err(anyhow::Error::msg);
        orchestrator = asking.context("ORCHESTRATOR_TOKEN cannot be used")?;
    }
    let listener = start_up::listen(config.address).await?;
    let stop = start_up::stop_on_signal()?;
    let database = orders::open(&backends.database_url).await?;
    let service = orders::start(database, backends.transport()?, orchestrator)?;
    service.tokens(config.tokens.clone()).serve(listener, stop).await
}

/// All four services in memory, and three orders to watch.
async fn all_four(config: &Config) -> anyhow::Result<()> {
    ensure!(
        config.tokens.is_empty(),
        "the story is told without tokens: unset API_TOKENS, or set KAFKA_BROKERS and DATABASE_URL"
    );
    // The story has the terminal to itself, unless something is wrong.
    start_up::log(start_up::WARN);
    let _telemetry = telemetry::install(&ORDERS)?;
    let together = Together::listen(config.address).await?;
    let urls = together.urls()?;
    let stop = start_up::stop_on_signal()?;
    let services = tokio::spawn(together.serve(stop.clone()));

    println!("OrderWeaver: four services in one process, in memory. Nothing outlives it.\n");
    for (service, url) in ["orders", "payments", "inventory", "orchestrator"].iter().zip(&urls) {
        println!("  {service:<12} {url}");
    }
    let client = Client::new(&urls[0]).map_err(anyhow::Error::msg)?;
    let told = match stop.run_until_cancelled(story::tell(&client)).await {
        Some(told) => told,
        // Only who asked for the whole story is told that there is no end to it.
        None if config.once => Err(anyhow::anyhow!("stopped before the story ended")),
        None => Ok(()),
    };
    if config.once || told.is_err() {
        stop.cancel();
    } else if !stop.is_cancelled() {
        invite(&urls[0]);
    }
    services.await??;
    told
}

/// Says what to try next.
fn invite(url: &str) {
    let body = r#"{"order_id":"o-1","user_id":"u-1","amount":123.45}"#;
    println!("\nTry it yourself:\n");
    println!("  curl -X POST {url}/orders -H 'Content-Type: application/json' \\\n    -d '{body}'");
    println!("  curl {url}/orders/o-1\n\nServing until Ctrl-C.");
}
