//! Orders: what the service needs of a database, in memory and in PostgreSQL.

use std::collections::BTreeMap;
use std::future::Future;

use anyhow::Context as _;
use saga_core::MemoryConnection;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};

use super::{Order, Status};
use crate::shared::money::Money;

/// Orders, through an open transaction.
pub trait OrderRepository: Send + 'static {
    /// Adds an order. Returns false if there is one of this id, and leaves that one as it is.
    fn insert(&mut self, order: &Order) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Returns an order.
    fn find(
        &mut self,
        order_id: &str,
    ) -> impl Future<Output = anyhow::Result<Option<Order>>> + Send;

    /// Says what became of an order. Returns false if it is not pending.
    fn close(
        &mut self,
        order_id: &str,
        status: Status,
        reason: Option<&str>,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;
}

/// The table, in memory.
#[derive(Debug, Clone, Default)]
pub struct OrderTable(BTreeMap<String, Order>);

impl OrderRepository for MemoryConnection<OrderTable> {
    async fn insert(&mut self, order: &Order) -> anyhow::Result<bool> {
        if self.0.contains_key(&order.order_id) {
            return Ok(false);
        }
        self.0.insert(order.order_id.clone(), order.clone());
        Ok(true)
    }

    async fn find(&mut self, order_id: &str) -> anyhow::Result<Option<Order>> {
        Ok(self.0.get(order_id).cloned())
    }

    async fn close(
        &mut self,
        order_id: &str,
        status: Status,
        reason: Option<&str>,
    ) -> anyhow::Result<bool> {
        let Some(order) = self.0.get_mut(order_id) else { return Ok(false) };
        if order.status != Status::Pending {
            return Ok(false);
        }
        (order.status, order.reason) = (status, reason.map(ToOwned::to_owned));
        Ok(true)
    }
}

impl OrderRepository for PgConnection {
    async fn insert(&mut self, order: &Order) -> anyhow::Result<bool> {
        // Waits for a transaction that is inserting the same id, and sees what became of it.
        let insert = "insert into orders (order_id, user_id, amount_minor, currency, items)
            values ($1, $2, $3, $4, $5) on conflict (order_id) do nothing";
        let insert = sqlx::query(insert).bind(&order.order_id).bind(&order.user_id);
        let insert = insert.bind(order.amount.minor).bind(&order.amount.currency);
        let inserted = insert.bind(Json(&order.items)).execute(self).await?.rows_affected();
        Ok(inserted == 1)
    }

    async fn find(&mut self, order_id: &str) -> anyhow::Result<Option<Order>> {
        let select = "select user_id, amount_minor, currency, items, status, reason
            from orders where order_id = $1";
        let row = sqlx::query(select).bind(order_id).fetch_optional(self).await?;
        let Some(row) = row else { return Ok(None) };
        let Json(items) = row.try_get(3)?;
        Ok(Some(Order {
            order_id: order_id.to_owned(),
            user_id: row.try_get(0)?,
            amount: Money { minor: row.try_get(1)?, currency: row.try_get(2)? },
            items,
            status: Status::parse(row.try_get(4)?).context("an order has an unknown status")?,
            reason: row.try_get(5)?,
        }))
    }

    async fn close(
        &mut self,
        order_id: &str,
        status: Status,
        reason: Option<&str>,
    ) -> anyhow::Result<bool> {
        let update = "update orders set status = $2, reason = $3
            where order_id = $1 and status = 'pending'";
        let update = sqlx::query(update).bind(order_id).bind(status.as_str()).bind(reason);
        Ok(update.execute(self).await?.rows_affected() == 1)
    }
}
