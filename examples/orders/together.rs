//! All four services in one process, in memory: the same code, other backends.

use std::net::SocketAddr;

use anyhow::Context as _;
use chassis::http::Client;
use chassis::start_up;
use saga_core::{MemoryStore, MemoryTransport};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::OrderTable;
use crate::{inventory, orchestrator, orders, payments};

/// The four services, ready to be served.
#[derive(Debug)]
pub struct Together {
    listeners: [TcpListener; 4],
}

impl Together {
    /// Takes four ports: the one of `address` and the next three, or four free ones if it is 0.
    ///
    /// # Errors
    ///
    /// One line that says what to do if another program has one of them.
    pub async fn listen(address: SocketAddr) -> anyhow::Result<Self> {
        let port = |n| match address.port() {
            0 => Some(0),
            first => u16::checked_add(first, n),
        };
        let listen = async |n| {
            let port = port(n).context("four ports are needed; choose a lower one with --port")?;
            start_up::listen((address.ip(), port).into()).await
        };
        Ok(Self {
            listeners: [listen(0).await?, listen(1).await?, listen(2).await?, listen(3).await?],
        })
    }

    /// Returns the URLs of orders, payments, inventory and the orchestrator.
    ///
    /// # Errors
    ///
    /// If the system does not say which ports it gave.
    pub fn urls(&self) -> anyhow::Result<[String; 4]> {
        let [orders, payments, inventory, orchestrator] = &self.listeners;
        let url = |listener: &TcpListener| anyhow::Ok(format!("http://{}", listener.local_addr()?));
        Ok([url(orders)?, url(payments)?, url(inventory)?, url(orchestrator)?])
    }

    /// Runs the four until `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// What made one of them stop by itself; the others are stopped with it.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let [_, _, _, orchestrator_url] = self.urls()?;
        let sagas = Client::new(&orchestrator_url).map_err(anyhow::Error::msg)?;
        // One transport for all, as one Kafka would be; a database for each.
        let transport = MemoryTransport::new();
        let order_table = MemoryStore::with_state(OrderTable::default());
        let services = [
            orders::start(order_table, transport.clone(), sagas)?,
            payments::start(payments::in_memory().await?, transport.clone())?,
            inventory::start(inventory::in_memory().await?, transport.clone())?,
            orchestrator::start(MemoryStore::new(), transport)?,
        ];
        let mut running = JoinSet::new();
        for (service, listener) in services.into_iter().zip(self.listeners) {
            running.spawn(service.serve(listener, stop.clone()));
        }
        let mut result = Ok(());
        while let Some(ended) = running.join_next().await {
            result = result.and(ended.map_err(anyhow::Error::from).flatten());
            // One of four would look like all.
            stop.cancel();
        }
        result
    }
}
