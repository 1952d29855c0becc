//! The orchestrator as a program of its own, on Kafka and PostgreSQL.

use std::process::ExitCode;

use chassis::config::Config;
use chassis::{database, start_up, telemetry};
use examples::contract::ORCHESTRATOR;
use examples::orchestrator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start_up::log(start_up::INFO);
    start_up::exit(ORCHESTRATOR, run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::read(8004)?;
    let (address, tokens) = (config.address, config.tokens.clone());
    let backends = config.backends(&ORCHESTRATOR)?;
    let _telemetry = telemetry::install(&ORCHESTRATOR)?;
    let listener = start_up::listen(address).await?;
    let stop = start_up::stop_on_signal()?;
    let database = database::connect(&backends.database_url).await?;
    let service = orchestrator::start(database, backends.transport()?)?;
    service.tokens(tokens).serve(listener, stop).await
}
