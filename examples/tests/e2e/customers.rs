//! Customers who order over HTTP, and ask again when they get no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chassis::http::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;
use crate::orders::{Plan, PlannedOrder};

/// How many order at the same time.
const CUSTOMERS: usize = 8;

pub(crate) struct Customers {
    pub(crate) plan: Arc<Plan>,
    pub(crate) accepted: Arc<AtomicUsize>,
    /// How long the orders are spread over.
    pub(crate) pace: Duration,
}

impl Customers {
    /// Places every order; returns when each was accepted.
    pub(crate) async fn order(self, orders: Client, mut dice: Dice) {
        let started = Instant::now();
        let this = Arc::new(self);
        let mut customers = JoinSet::new();
        for customer in 0..CUSTOMERS {
            let (this, orders, mut dice) = (Arc::clone(&this), orders.clone(), dice.fork());
            customers.spawn(async move {
                let mine: Vec<_> = this.plan.0.iter().skip(customer).step_by(CUSTOMERS).collect();
                let mut moments: Vec<_> =
                    mine.iter().map(|_| dice.duration_below(this.pace)).collect();
                moments.sort();
                for (order, moment) in mine.into_iter().zip(moments) {
                    sleep_until(started + moment).await;
                    place(&orders, order).await;
                    this.accepted.fetch_add(1, Ordering::Relaxed);
                    if dice.below(20) == 0 {
                        place(&orders, order).await; // Some never know whether it worked.
                    }
                }
            });
        }
        customers.join_all().await;
    }
}

/// Places one order, under one id, however often that takes.
async fn place(orders: &Client, order: &PlannedOrder) {
    let body = order.body();
    loop {
        match orders.post("/orders", &body).await {
            Ok((status, _)) if status == 202 => return,
            // The service is being killed, or has just started.
            Err(_) => {}
            Ok((status, _)) if status == 503 => {}
            Ok((status, answer)) => panic!("{body} was answered with {status}: {answer}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}
