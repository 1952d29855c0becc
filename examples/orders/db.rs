//! Orders: what the service needs of a database, in memory and in PostgreSQL.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use anyhow::Context as _;
use chassis::money::Money;
use saga_core::{MemoryConnection, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};

use super::{Order, Status};

/// Orders, through an open transaction.
pub trait OrderRepository: Send + 'static {
    /// Adds orders, and returns the ids of those that are new: an order that has the id of an earlier one
    /// leaves that as it is.
    fn insert(
        &mut self,
        orders: &[Order],
    ) -> impl Future<Output = anyhow::Result<BTreeSet<String>>> + Send;

    /// Returns an order; nothing if it is another customer's than `owner`'s, if that is said.
    fn find(
        &mut self,
        order_id: &str,
        owner: Option<&str>,
    ) -> impl Future<Output = anyhow::Result<Option<Order>>> + Send;

    /// Returns orders, the newest first, from behind a place on.
    fn list(
        &mut self,
        filter: &OrderFilter,
        after: Option<&Place>,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<Order>>> + Send;

    /// Says what became of orders. Returns how many of them were pending; the others stay as they are.
    fn close(
        &mut self,
        order_ids: &[String],
        status: Status,
        reason: Option<&str>,
    ) -> impl Future<Output = anyhow::Result<usize>> + Send;
}

/// Which orders are asked for: all, unless something is said.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Only those of this status.
    pub status: Option<Status>,
    /// Only those of this customer.
    pub user_id: Option<String>,
}

/// Where an order stands in the list of all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was placed.
    pub placed_at: Timestamp,
    /// The order.
    pub order_id: String,
}

/// The table, in memory.
#[derive(Debug, Clone, Default)]
pub struct OrderTable(BTreeMap<String, Order>);

impl OrderTable {
    /// Adds an order.
    #[must_use]
    pub fn with(mut self, order: Order) -> Self {
        self.0.insert(order.order_id.clone(), order);
        self
    }

    /// Returns an order.
    #[must_use]
    pub fn get(&self, order_id: &str) -> Option<&Order> {
        self.0.get(order_id)
    }
}

impl AsMut<Self> for OrderTable {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// On whatever state has the table in it.
impl<T: AsMut<OrderTable> + Clone + Send + Sync + 'static> OrderRepository for MemoryConnection<T> {
    async fn insert(&mut self, new: &[Order]) -> anyhow::Result<BTreeSet<String>> {
        let mut inserted = BTreeSet::new();
        for order in new {
            if let Entry::Vacant(place) = orders(self).entry(order.order_id.clone()) {
                place.insert(order.clone());
                inserted.insert(order.order_id.clone());
            }
        }
        Ok(inserted)
    }

    async fn find(&mut self, order_id: &str, owner: Option<&str>) -> anyhow::Result<Option<Order>> {
        let order = orders(self).get(order_id);
        Ok(order.filter(|it| owner.is_none_or(|owner| it.user_id == owner)).cloned())
    }

    async fn list(
        &mut self,
        filter: &OrderFilter,
        after: Option<&Place>,
        limit: usize,
    ) -> anyhow::Result<Vec<Order>> {
        let OrderFilter { status, user_id } = filter;
        let place = |it: &Order| Place { placed_at: it.placed_at, order_id: it.order_id.clone() };
        let orders = orders(self).values().filter(|it| {
            status.is_none_or(|status| it.status == status)
                && user_id.as_ref().is_none_or(|user_id| it.user_id == *user_id)
                && after.is_none_or(|after| place(it) < *after)
        });
        let mut orders: Vec<_> = orders.cloned().collect();
        orders.sort_by_key(|it| Reverse(place(it)));
        orders.truncate(limit);
        Ok(orders)
    }

    async fn close(
        &mut self,
        order_ids: &[String],
        status: Status,
        reason: Option<&str>,
    ) -> anyhow::Result<usize> {
        let mut closed = 0;
        for order_id in order_ids {
            let Some(order) = orders(self).get_mut(order_id) else { continue };
            if order.status == Status::Pending {
                (order.status, order.reason) = (status, reason.map(ToOwned::to_owned));
                closed += 1;
            }
        }
        Ok(closed)
    }
}

fn orders<T: AsMut<OrderTable> + Clone>(
    connection: &mut MemoryConnection<T>,
) -> &mut BTreeMap<String, Order> {
    &mut (**connection).as_mut().0
}

impl OrderRepository for PgConnection {
    async fn insert(&mut self, orders: &[Order]) -> anyhow::Result<BTreeSet<String>> {
        // Waits for a transaction that is inserting the same id, and sees what became of it; in the order
        // of the ids, so that two such transactions do not wait for each other.
        let insert =
            "insert into orders (order_id, user_id, amount_minor, currency, items, placed_at)
            select order_id, user_id, amount_minor, currency, items,
                timestamptz 'epoch' + placed_at * interval '1 microsecond'
            from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::jsonb[], $6::bigint[])
                as new (order_id, user_id, amount_minor, currency, items, placed_at)
            order by order_id
            on conflict (order_id) do nothing returning order_id";
        let insert = sqlx::query_scalar(insert)
            .bind(orders.iter().map(|it| it.order_id.as_str()).collect::<Vec<_>>())
            .bind(orders.iter().map(|it| it.user_id.as_str()).collect::<Vec<_>>())
            .bind(orders.iter().map(|it| it.amount.minor).collect::<Vec<_>>())
            .bind(orders.iter().map(|it| it.amount.currency.as_str()).collect::<Vec<_>>())
            .bind(orders.iter().map(|it| Json(&it.items)).collect::<Vec<_>>())
            .bind(orders.iter().map(|it| it.placed_at.as_micros()).collect::<Vec<_>>());
        let inserted: Vec<String> = insert.fetch_all(self).await?;
        Ok(inserted.into_iter().collect())
    }

    async fn find(&mut self, order_id: &str, owner: Option<&str>) -> anyhow::Result<Option<Order>> {
        let select = "select order_id, user_id, amount_minor, currency, items, status, reason,
                (extract(epoch from placed_at) * 1000000)::bigint
            from orders where order_id = $1 and ($2::text is null or user_id = $2)";
        let row = sqlx::query(select).bind(order_id).bind(owner).fetch_optional(self).await?;
        row.as_ref().map(read).transpose()
    }

    async fn list(
        &mut self,
        filter: &OrderFilter,
        after: Option<&Place>,
        limit: usize,
    ) -> anyhow::Result<Vec<Order>> {
        let select = "select order_id, user_id, amount_minor, currency, items, status, reason,
                (extract(epoch from placed_at) * 1000000)::bigint
            from orders
            where ($1::text is null or status = $1) and ($2::text is null or user_id = $2)
                and ($3::bigint is null or (placed_at, order_id)
                    < (timestamptz 'epoch' + $3 * interval '1 microsecond', $4::text))
            order by placed_at desc, order_id desc limit $5";
        let select = sqlx::query(select)
            .bind(filter.status.map(Status::as_str))
            .bind(&filter.user_id)
            .bind(after.map(|it| it.placed_at.as_micros()))
            .bind(after.map(|it| &it.order_id))
            .bind(i64::try_from(limit)?);
        select.fetch_all(self).await?.iter().map(read).collect()
    }

    async fn close(
        &mut self,
        order_ids: &[String],
        status: Status,
        reason: Option<&str>,
    ) -> anyhow::Result<usize> {
        let update = "update orders set status = $2, reason = $3
            where order_id = any($1) and status = 'pending'";
        let update = sqlx::query(update).bind(order_ids).bind(status.as_str()).bind(reason);
        Ok(usize::try_from(update.execute(self).await?.rows_affected())?)
    }
}

/// Reads an order of the table.
fn read(row: &PgRow) -> anyhow::Result<Order> {
    let Json(items) = row.try_get(4)?;
    Ok(Order {
        order_id: row.try_get(0)?,
        user_id: row.try_get(1)?,
        amount: Money { minor: row.try_get(2)?, currency: row.try_get(3)? },
        items,
        status: Status::parse(row.try_get(5)?).context("an order has an unknown status")?,
        reason: row.try_get(6)?,
        placed_at: Timestamp::from_micros(row.try_get(7)?),
    })
}
