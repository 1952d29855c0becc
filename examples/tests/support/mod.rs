//! What the tests of the services share.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod database;
pub(crate) mod metrics;
pub(crate) mod programs;

use std::time::Duration;

use chassis::http::Client;
use examples::orders::together::Together;
use tokio_util::sync::CancellationToken;

/// All four services in this process, in memory, until it is dropped.
pub(crate) struct Shop {
    pub(crate) orders: Client,
    pub(crate) payments: Client,
    pub(crate) inventory: Client,
    pub(crate) orchestrator: Client,
    /// Where the four are, in this order.
    pub(crate) urls: [String; 4],
    stop: CancellationToken,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        let together = Together::listen(address).await.expect("four free ports");
        let urls = together.urls().expect("the services have URLs");
        let stop = CancellationToken::new();
        tokio::spawn(together.serve(stop.clone()));
        let [orders, payments, inventory, orchestrator] =
            urls.clone().map(|url| Client::new(&url).expect("a URL"));
        Self { orders, payments, inventory, orchestrator, urls, stop }
    }

    pub(crate) fn all(&self) -> [&Client; 4] {
        [&self.orders, &self.payments, &self.inventory, &self.orchestrator]
    }

    /// Waits until the saga of an order has ended, and returns the order.
    pub(crate) async fn ended(&self, order_id: &str) -> serde_json::Value {
        let path = format!("/orders/{order_id}");
        let ended = async {
            loop {
                let (_, order) = self.orders.get(&path).await.expect("an answer");
                let status = order["saga"]["status"].as_str();
                if order["status"] != "pending"
                    && matches!(status, Some("completed" | "compensated"))
                {
                    return order;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the order ends in time")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
