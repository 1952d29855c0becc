//! Accepts an order: the order and the fact that it exists, in one transaction.
//!
//! Writing one and sending the other would lose an order, or invent one, whenever the process dies
//! in between. With the outbox there is no in between.

use anyhow::Context as _;
use saga_core::store::OutboxRow;

use super::{Order, OrderRepository};
use crate::shared::database::Database;

/// What became of the wish to place an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was accepted.
    Now,
    /// The same order was accepted before: the customer did not see our answer.
    Before,
    /// Another order has this id.
    Taken,
}

/// Accepts an order, once.
pub(super) async fn place<D>(database: &D, order: &Order) -> anyhow::Result<Placed>
where
    D: Database<Connection: OrderRepository>,
{
    let mut transaction = database.begin().await?;
    let orders = D::connection(&mut transaction);
    if !orders.insert(order).await? {
        let first = orders.find(&order.order_id).await?.context("an order disappeared")?;
        let is_same = first.is_same_request(order);
        return Ok(if is_same { Placed::Before } else { Placed::Taken });
    }
    let created = OutboxRow::fact(&order.created(), &order.order_id)?;
    D::enqueue(orders, created).await?;
    D::commit(transaction).await?;
    Ok(Placed::Now)
}
