//! Stock and reservations: what the handlers need of a database, in memory and in PostgreSQL.

use std::collections::BTreeMap;
use std::future::Future;

use saga_core::MemoryConnection;
use sqlx::{PgConnection, Row as _};

use crate::shared::messages::inventory::Item;

/// Stock and reservations, through an open transaction.
pub trait StockRepository: Send + 'static {
    /// Adds new pieces of an article.
    fn deliver(
        &mut self,
        sku: &str,
        quantity: u32,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns how many pieces can be reserved, and keeps others from reserving them until the
    /// transaction ends. There are none of an unknown article.
    fn on_hand(&mut self, sku: &str) -> impl Future<Output = anyhow::Result<u32>> + Send;

    /// Sets pieces that are on hand aside for an order.
    fn reserve(
        &mut self,
        order_id: &str,
        item: &Item,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts what is set aside for an order back.
    fn release(&mut self, order_id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Turns what is set aside for an order into what is sold.
    fn sell(&mut self, order_id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The tables, in memory.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    articles: BTreeMap<String, Article>,
    /// What is set aside, by order.
    reserved: BTreeMap<String, Vec<Item>>,
}

#[derive(Debug, Clone, Default)]
struct Article {
    on_hand: u32,
    sold: u32,
}

impl Stock {
    fn article(&mut self, sku: &str) -> &mut Article {
        self.articles.entry(sku.to_owned()).or_default()
    }
}

impl StockRepository for MemoryConnection<Stock> {
    async fn deliver(&mut self, sku: &str, quantity: u32) -> anyhow::Result<()> {
        self.article(sku).on_hand += quantity;
        Ok(())
    }

    async fn on_hand(&mut self, sku: &str) -> anyhow::Result<u32> {
        Ok(self.articles.get(sku).map_or(0, |article| article.on_hand))
    }

    async fn reserve(&mut self, order_id: &str, item: &Item) -> anyhow::Result<()> {
        self.article(&item.sku).on_hand -= item.quantity;
        self.reserved.entry(order_id.to_owned()).or_default().push(item.clone());
        Ok(())
    }

    async fn release(&mut self, order_id: &str) -> anyhow::Result<()> {
        for item in self.reserved.remove(order_id).unwrap_or_default() {
            self.article(&item.sku).on_hand += item.quantity;
        }
        Ok(())
    }

    async fn sell(&mut self, order_id: &str) -> anyhow::Result<()> {
        for item in self.reserved.remove(order_id).unwrap_or_default() {
            self.article(&item.sku).sold += item.quantity;
        }
        Ok(())
    }
}

impl StockRepository for PgConnection {
    async fn deliver(&mut self, sku: &str, quantity: u32) -> anyhow::Result<()> {
        let deliver = "insert into stock (sku, on_hand) values ($1, $2)
            on conflict (sku) do update set on_hand = stock.on_hand + excluded.on_hand";
        sqlx::query(deliver).bind(sku).bind(i64::from(quantity)).execute(self).await?;
        Ok(())
    }

    async fn on_hand(&mut self, sku: &str) -> anyhow::Result<u32> {
        let select = "select on_hand from stock where sku = $1 for update";
        let row = sqlx::query(select).bind(sku).fetch_optional(self).await?;
        let on_hand: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
        Ok(u32::try_from(on_hand)?)
    }

    async fn reserve(&mut self, order_id: &str, item: &Item) -> anyhow::Result<()> {
        let quantity = i64::from(item.quantity);
        let take = "update stock set on_hand = on_hand - $2 where sku = $1";
        sqlx::query(take).bind(&item.sku).bind(quantity).execute(&mut *self).await?;
        let insert = "insert into reservation (order_id, sku, quantity) values ($1, $2, $3)";
        sqlx::query(insert).bind(order_id).bind(&item.sku).bind(quantity).execute(self).await?;
        Ok(())
    }

    async fn release(&mut self, order_id: &str) -> anyhow::Result<()> {
        let update = "with released as (
                update reservation set state = 'released'
                where order_id = $1 and state = 'reserved' returning sku, quantity)
            update stock s set on_hand = s.on_hand + r.quantity
            from released r where s.sku = r.sku";
        sqlx::query(update).bind(order_id).execute(self).await?;
        Ok(())
    }

    async fn sell(&mut self, order_id: &str) -> anyhow::Result<()> {
        let update = "with sold as (
                update reservation set state = 'sold'
                where order_id = $1 and state = 'reserved' returning sku, quantity)
            update stock s set sold = s.sold + r.quantity
            from sold r where s.sku = r.sku";
        sqlx::query(update).bind(order_id).execute(self).await?;
        Ok(())
    }
}
