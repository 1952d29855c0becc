//! Customers who place orders at their times, whatever became of the others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chassis::http::Client;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How many orders may wait for an answer at once: more than do, unless something is wrong.
const CUSTOMERS: u32 = 256;

/// The seed data knows `u-1` to `u-100`.
const CUSTOMERS_WITH_MONEY: u32 = 100;

/// Who places the orders, and when.
pub(super) struct Customers {
    /// What the ids of their orders begin with.
    pub(super) run: String,
    pub(super) orders: Client,
    pub(super) rate: u32,
    pub(super) all: u32,
    pub(super) begin: Instant,
}

/// An order that was placed.
pub(super) struct Placed {
    pub(super) order_id: String,
    /// When it was to be placed.
    pub(super) due: Instant,
    /// When it was accepted.
    pub(super) accepted: Instant,
}

impl Customers {
    /// Places every order; returns them in the order in which they were due.
    pub(super) async fn order(self) -> anyhow::Result<Vec<Placed>> {
        let this = Arc::new(self);
        let mut customers = JoinSet::new();
        for customer in 0..CUSTOMERS {
            let this = Arc::clone(&this);
            customers.spawn(async move {
                let mut placed = Vec::new();
                for number in (customer..this.all).step_by(CUSTOMERS as usize) {
                    placed.push((number, this.place(number).await?));
                }
                anyhow::Ok(placed)
            });
        }
        let mut placed = Vec::new();
        while let Some(some) = customers.join_next().await {
            placed.extend(some??);
        }
        placed.sort_by_key(|(number, _)| *number);
        Ok(placed.into_iter().map(|(_, placed)| placed).collect())
    }

    async fn place(&self, number: u32) -> anyhow::Result<Placed> {
        let due = self.begin + Duration::from_secs(1) * number / self.rate;
        sleep_until(due).await;
        let order_id = format!("{}-{number}", self.run);
        let user_id = format!("u-{}", number % CUSTOMERS_WITH_MONEY + 1);
        let body = json!({"order_id": order_id, "user_id": user_id, "amount": 1});
        let answered = self.orders.post("/orders", body).await;
        let (status, answer) =
            answered.context("an order was not taken; `make status` says what runs")?;
        ensure!(status == 202, "an order was answered with {status}: {answer}");
        Ok(Placed { order_id, due, accepted: Instant::now() })
    }
}
