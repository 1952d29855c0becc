//! Stock and reservations: what the handlers need of a database, in memory and in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use saga_core::MemoryConnection;
use sqlx::postgres::PgRow;
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

    /// Returns how many pieces of articles can be reserved, and keeps others from reserving them until the
    /// transaction ends. An unknown article is left out.
    fn on_hand(
        &mut self,
        articles: &BTreeSet<String>,
    ) -> impl Future<Output = anyhow::Result<BTreeMap<String, u32>>> + Send;

    /// Sets pieces that are on hand aside for orders.
    fn reserve(
        &mut self,
        items: &[(String, Item)],
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts what is set aside for an order back.
    fn release(&mut self, order_id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Turns what is set aside for orders into what is sold.
    fn sell(&mut self, order_ids: &[String]) -> impl Future<Output = anyhow::Result<()>> + Send;
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
    /// Fills a warehouse.
    #[must_use]
    pub fn new(articles: &[(&str, u32)]) -> Self {
        let article = |&(sku, on_hand): &(&str, u32)| {
            (sku.to_owned(), Article { on_hand, ..Article::default() })
        };
        Self { articles: articles.iter().map(article).collect(), reserved: BTreeMap::new() }
    }

    /// Returns how many pieces of an article are on hand, set aside, and sold.
    #[must_use]
    pub fn pieces(&self, sku: &str) -> (u32, u32, u32) {
        let reserved = self.reserved.values().flatten().filter(|item| item.sku == sku);
        let reserved = reserved.map(|item| item.quantity).sum();
        self.articles.get(sku).map_or((0, reserved, 0), |it| (it.on_hand, reserved, it.sold))
    }

    fn article(&mut self, sku: &str) -> &mut Article {
        self.articles.entry(sku.to_owned()).or_default()
    }
}

impl AsMut<Self> for Stock {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// On whatever state has the stock in it.
impl<T: AsMut<Stock> + Clone + Send + Sync + 'static> StockRepository for MemoryConnection<T> {
    async fn deliver(&mut self, sku: &str, quantity: u32) -> anyhow::Result<()> {
        stock(self).article(sku).on_hand += quantity;
        Ok(())
    }

    async fn on_hand(
        &mut self,
        articles: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeMap<String, u32>> {
        let stock = stock(self);
        let known = articles.iter().filter_map(|sku| stock.articles.get_key_value(sku));
        Ok(known.map(|(sku, article)| (sku.clone(), article.on_hand)).collect())
    }

    async fn reserve(&mut self, items: &[(String, Item)]) -> anyhow::Result<()> {
        let stock = stock(self);
        for (order_id, item) in items {
            stock.article(&item.sku).on_hand -= item.quantity;
            stock.reserved.entry(order_id.clone()).or_default().push(item.clone());
        }
        Ok(())
    }

    async fn release(&mut self, order_id: &str) -> anyhow::Result<()> {
        let stock = stock(self);
        for item in stock.reserved.remove(order_id).unwrap_or_default() {
            stock.article(&item.sku).on_hand += item.quantity;
        }
        Ok(())
    }

    async fn sell(&mut self, order_ids: &[String]) -> anyhow::Result<()> {
        let stock = stock(self);
        for order_id in order_ids {
            for item in stock.reserved.remove(order_id).unwrap_or_default() {
                stock.article(&item.sku).sold += item.quantity;
            }
        }
        Ok(())
    }
}

fn stock<T: AsMut<Stock> + Clone>(connection: &mut MemoryConnection<T>) -> &mut Stock {
    (**connection).as_mut()
}

impl StockRepository for PgConnection {
    async fn deliver(&mut self, sku: &str, quantity: u32) -> anyhow::Result<()> {
        let deliver = "insert into stock (sku, on_hand) values ($1, $2)
            on conflict (sku) do update set on_hand = stock.on_hand + excluded.on_hand";
        sqlx::query(deliver).bind(sku).bind(i64::from(quantity)).execute(self).await?;
        Ok(())
    }

    async fn on_hand(
        &mut self,
        articles: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeMap<String, u32>> {
        let articles: Vec<_> = articles.iter().collect();
        // In one order, so that two who lock the same articles do not wait for each other.
        let select =
            "select sku, on_hand from stock where sku = any($1) order by sku for update";
        let rows = sqlx::query(select).bind(articles).fetch_all(self).await?;
        let on_hand = |row: PgRow| {
            let pieces: i64 = row.try_get(1)?;
            Ok((row.try_get(0)?, u32::try_from(pieces)?))
        };
        rows.into_iter().map(on_hand).collect()
    }

    async fn reserve(&mut self, items: &[(String, Item)]) -> anyhow::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let reserve = "with item as (
                select * from unnest($1::text[], $2::text[], $3::bigint[]) as item (order_id, sku, quantity)),
            reserved as (
                insert into reservation (order_id, sku, quantity) select * from item)
            update stock s set on_hand = s.on_hand - total.quantity
            from (select sku, sum(quantity)::bigint as quantity from item group by sku) as total
            where s.sku = total.sku";
        let reserve = sqlx::query(reserve)
            .bind(items.iter().map(|(order_id, _)| order_id.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|(_, item)| item.sku.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|(_, item)| i64::from(item.quantity)).collect::<Vec<_>>());
        reserve.execute(self).await?;
        Ok(())
    }

    async fn release(&mut self, order_id: &str) -> anyhow::Result<()> {
        let release = "with released as (
                update reservation set state = 'released'
                where order_id = $1 and state = 'reserved' returning sku, quantity)
            update stock s set on_hand = s.on_hand + r.quantity
            from released r where s.sku = r.sku";
        sqlx::query(release).bind(order_id).execute(self).await?;
        Ok(())
    }

    async fn sell(&mut self, order_ids: &[String]) -> anyhow::Result<()> {
        let sell = "with sold as (
                update reservation set state = 'sold'
                where order_id = any($1) and state = 'reserved' returning sku, quantity)
            update stock s set sold = s.sold + total.quantity
            from (select sku, sum(quantity)::bigint as quantity from sold group by sku) as total
            where s.sku = total.sku";
        sqlx::query(sell).bind(order_ids).execute(self).await?;
        Ok(())
    }
}
