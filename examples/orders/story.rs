//! Three orders, placed over HTTP, and what becomes of each: the story that the program tells.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::shared::http::Client;

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
        let body = json!({
            "order_id": self.order_id,
            "user_id": self.user_id,
            "amount": self.amount.parse::<serde_json::Number>()?,
            "items": [{"sku": self.sku, "quantity": 1}],
        });
        let (status, answer) = orders.post("/orders", &body).await?;
        println!("   POST /orders {body}");
        println!("   {status}");
        ensure!(status == 202, "the order was not accepted: {answer}");

        let order = self.watch(orders).await?;
        let Ending { order: expected, reason, saga } = self.ends;
        println!(
            "   {}: the order is {}{}",
            text(&order["saga"]["status"]),
            text(&order["status"]),
            order["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default(),
        );
        let ended =
            (order["status"].as_str(), order["reason"].as_str(), order["saga"]["status"].as_str());
        ensure!(
            ended == (Some(expected), reason, Some(saga)),
            "{} should have been {expected}, and its saga {saga}",
            self.order_id,
        );
        Ok(())
    }

    /// Prints the timeline of the order's saga until it has ended; returns the order.
    async fn watch(&self, orders: &Client) -> anyhow::Result<Value> {
        let path = format!("/orders/{}", self.order_id);
        let mut printed = 0;
        loop {
            let (status, order) = orders.get(&path).await?;
            ensure!(status == 200, "the order is not shown: {order}");
            let timeline = order["saga"]["timeline"].as_array().map_or(&[][..], Vec::as_slice);
            for entry in timeline.iter().skip(printed) {
                print(entry);
            }
            printed = timeline.len();
            if matches!(
                order["saga"]["status"].as_str(),
                Some("completed" | "compensated" | "parked")
            ) {
                // The saga was read after the order: once more, for an order that is as new.
                return Ok(orders.get(&path).await?.1);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Prints one entry: steps point forward, compensations point back.
fn print(entry: &Value) {
    let (event, step, detail) =
        (text(&entry["event"]), text(&entry["step"]), text(&entry["detail"]));
    let arrow = match event {
        "command sent" => "──►",
        "succeeded" => "  ✓",
        "rejected" => "  ✗",
        "compensation sent" => "◄──",
        "compensated" => "  ↩",
        _ => "  ·",
    };
    let separator = if detail.is_empty() { "" } else { ": " };
    println!("     {arrow} {step:<18} {event}{separator}{detail}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
