//! Connections to the database, and the schemas and databases of a run.

use std::str::FromStr as _;

use anyhow::Context as _;
pub(crate) use benches::drop_schema;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection};

/// A name that the server knows our connections by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(&'static str);

/// The connections that do the work and that are measured.
pub(crate) const BACKENDS: Client = Client("order-saga");
/// The connections that prepare, measure and verify.
pub(crate) const METER: Client = Client("order-saga-meter");

impl Client {
    pub(crate) const fn application_name(self) -> &'static str {
        self.0
    }

    fn options(self, url: &str) -> anyhow::Result<PgConnectOptions> {
        let options = PgConnectOptions::from_str(url).context("the database URL is not usable")?;
        Ok(options.application_name(self.0).disable_statement_logging())
    }

    /// Opens one connection.
    pub(crate) async fn connect(self, url: &str) -> anyhow::Result<PgConnection> {
        let connected = self.options(url)?.connect().await;
        connected.context("the database does not answer; `scripts/services up` starts one")
    }

    /// Opens a pool.
    pub(crate) async fn pool(self, url: &str, connections: u32) -> anyhow::Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
        Ok(options.connect_with(self.options(url)?).await?)
    }
}

/// Returns a URL with another name of the application, by which the server tells connections apart.
pub(crate) fn named(url: &str, client: Client) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}application_name={}", client.0)
}
