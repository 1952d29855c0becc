//! The inventory service as a program of its own, on Kafka and PostgreSQL.

use std::process::ExitCode;

use chassis::config::{self, Config};
use chassis::{seed, start_up, telemetry};
use examples::contract::INVENTORY;
use examples::inventory::{self, Inventory};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start_up::log(start_up::INFO);
    start_up::exit(INVENTORY, run().await)
}

async fn run() -> anyhow::Result<()> {
    if let Some(url) = seed::database()? {
        println!("{INVENTORY}: {}", inventory::seed(&url).await?);
        return Ok(());
    }
    let config = Config::read(8003)?;
    let (address, tokens) = (config.address, config.tokens.clone());
    let backends = config.backends(&INVENTORY)?;
    let reserved_for = config::seconds("RESERVATION_SECONDS")?;
    let inventory = reserved_for.map_or_else(Inventory::default, Inventory::reserving_for);
    let _telemetry = telemetry::install(&INVENTORY)?;
    let listener = start_up::listen(address).await?;
    let stop = start_up::stop_on_signal()?;
    let database = inventory::open(&backends.database_url).await?;
    let service = inventory::start_as(inventory, database, backends.transport()?)?;
    service.tokens(tokens).serve(listener, stop).await
}
