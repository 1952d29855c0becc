//! The payments service as a program of its own, on Kafka and PostgreSQL.

use std::process::ExitCode;

use chassis::config::Config;
use chassis::{seed, start_up, telemetry};
use examples::contract::PAYMENTS;
use examples::payments;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start_up::log(start_up::INFO);
    start_up::exit(PAYMENTS, run().await)
}

async fn run() -> anyhow::Result<()> {
    if let Some(url) = seed::database()? {
        println!("{PAYMENTS}: {}", payments::seed(&url).await?);
        return Ok(());
    }
    let config = Config::read(8002)?;
    let (address, tokens) = (config.address, config.tokens.clone());
    let backends = config.backends(&PAYMENTS)?;
    let _telemetry = telemetry::install(&PAYMENTS)?;
    let listener = start_up::listen(address).await?;
    let stop = start_up::stop_on_signal()?;
    let database = payments::open(&backends.database_url).await?;
    let service = payments::start(database, backends.transport()?)?;
    service.tokens(tokens).serve(listener, stop).await
}
