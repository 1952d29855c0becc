//! Three orders, placed over HTTP, and what becomes of each: the story that the program tells.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::http::StatusCode;
use chassis::http::Client;
use serde::Deserialize;

use crate::contract::timeline::{ShownEntry, ShownSaga};

/// One order of the story.
struct Chapter {
    title: &'static str,
    order_id: &'static str,
    user_id: &'static str,
    amount: &'static str,
    sku: &'static str,
    ends: Ending,
}

/// How an order should end.
struct Ending {
    order: &'static str,
    reason: Option<&'static str>,
    saga: &'static str,
}

const CHAPTERS: [Chapter; 3] = [
    Chapter {
        title: "An order that goes through",
        order_id: "story-1",
        user_id: "u-1",
        amount: "449.90",
        sku: "espresso-machine",
        ends: Ending { order: "confirmed", reason: None, saga: "completed" },
    },
    Chapter {
        title: "A card that is declined: what was reserved is released",
        order_id: "story-2",
        user_id: "u-poor",
        amount: "449.90",
        sku: "espresso-machine",
        ends: Ending { order: "rejected", reason: Some("card-declined"), saga: "compensated" },
    },
    Chapter {
        title: "An article that is out of stock: there is nothing to undo but the order",
        order_id: "story-3",
        user_id: "u-1",
        amount: "9.99",
        sku: "moon-rock",
        ends: Ending { order: "rejected", reason: Some("out-of-stock"), saga: "compensated" },
    },
];

/// How long one order may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Places the orders and prints what happens as it happens.
///
/// # Errors
///
/// If an order did not end as it should.
pub async fn tell(orders: &Client) -> anyhow::Result<()> {
    for (number, chapter) in (1..).zip(&CHAPTERS) {
        println!("\n{number}. {}", chapter.title);
        let told = tokio::time::timeout(PATIENCE, chapter.tell(orders)).await;
        told.with_context(|| format!("{} did not end in time", chapter.order_id))??;
    }
    Ok(())
}

impl Chapter {
    async fn tell(&self, orders: &Client) -> anyhow::Result<()> {
        let Self { order_id, user_id, amount, sku, .. } = self;
        let body = format!(
            r#"{{"order_id":"{order_id}","user_id":"{user_id}","amount":{amount},"items":[{{"sku":"{sku}","quantity":1}}]}}"#
        );
        println!("   POST /orders {body}");
        let (status, answer) = orders.post("/orders", &body).await?;
        println!("   {status}");
        ensure!(status == StatusCode::ACCEPTED, "the order was not accepted: {answer}");

        let saga = self.watch(orders).await?;
        let order = self.order(orders).await?;
        let reason = order.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        println!("   {}: the order is {}{reason}", saga.status, order.status);
        let ended = (order.status.as_str(), order.reason.as_deref(), saga.status.as_str());
        ensure!(
            ended == (self.ends.order, self.ends.reason, self.ends.saga),
            "{order_id} should have been {}, and its saga {}",
            self.ends.order,
            self.ends.saga,
        );
        Ok(())
    }

    /// Prints the timeline of the order's saga until it has ended.
    async fn watch(&self, orders: &Client) -> anyhow::Result<ShownSaga> {
        let mut printed = 0;
        loop {
            if let Some(saga) = self.order(orders).await?.saga {
                saga.timeline.iter().skip(printed).for_each(print);
                printed = saga.timeline.len();
                if saga.has_ended() {
                    return Ok(saga);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn order(&self, orders: &Client) -> anyhow::Result<Order> {
        let (status, order) = orders.get(&format!("/orders/{}", self.order_id)).await?;
        ensure!(status == StatusCode::OK, "the order is not shown: {order}");
        Ok(serde_json::from_value(order)?)
    }
}

/// What the story reads of an order.
#[derive(Deserialize)]
struct Order {
    status: String,
    reason: Option<String>,
    saga: Option<ShownSaga>,
}

/// Prints one entry: steps point forward, compensations point back.
fn print(entry: &ShownEntry) {
    let arrow = match entry.event.as_str() {
        "command sent" => "──►",
        "succeeded" => "  ✓",
        "rejected" => "  ✗",
        "compensation sent" => "◄──",
        "compensated" => "  ↩",
        _ => "  ·",
    };
    let ShownEntry { step, event, detail, .. } = entry;
    let step = step.as_deref().unwrap_or_default();
    let separator = if detail.is_empty() { "" } else { ": " };
    println!("     {arrow} {step:<18} {event}{separator}{detail}");
}
