//! The warehouse in memory.

use std::collections::{BTreeMap, BTreeSet};

use saga_core::{MemoryConnection, Timestamp};

use super::{Article, Reservation, ReservationState, StockQueries, StockRepository};
use crate::contract::messages::inventory::Item;

/// The tables, in memory.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    articles: BTreeMap<String, Article>,
    /// By order and article.
    reservations: BTreeMap<(String, String), Reservation>,
    deliveries: BTreeMap<String, Item>,
}

impl Stock {
    /// Fills a warehouse.
    #[must_use]
    pub fn new(articles: &[(&str, u32)]) -> Self {
        let mut stock = Self::default();
        for (sku, on_hand) in articles {
            stock.article(sku).on_hand = *on_hand;
        }
        stock
    }

    /// Returns how many pieces of an article are on hand, set aside, and sold.
    #[must_use]
    pub fn pieces(&self, sku: &str) -> (u32, u32, u32) {
        let reserved = self.reservations.values().filter(|it| it.sku == sku && it.is_open());
        let reserved = reserved.map(|it| it.quantity).sum();
        self.articles.get(sku).map_or((0, reserved, 0), |it| (it.on_hand, reserved, it.sold))
    }

    fn article(&mut self, sku: &str) -> &mut Article {
        let article = || Article { sku: sku.to_owned(), on_hand: 0, sold: 0 };
        self.articles.entry(sku.to_owned()).or_insert_with(article)
    }

    /// Notes what becomes of reservations, and returns them as they were.
    fn close(
        &mut self,
        state: ReservationState,
        which: impl Fn(&Reservation) -> bool,
    ) -> Vec<Reservation> {
        let closed = self.reservations.values_mut().filter(|it| which(it));
        closed.map(|it| std::mem::replace(it, Reservation { state, ..it.clone() })).collect()
    }
}

impl AsMut<Self> for Stock {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// On whatever state has the stock in it.
impl<T: AsMut<Stock> + Clone + Send + Sync + 'static> StockRepository for MemoryConnection<T> {
    async fn deliver(&mut self, delivery_id: &str, item: &Item) -> anyhow::Result<bool> {
        let stock = stock(self);
        if stock.deliveries.contains_key(delivery_id) {
            return Ok(false);
        }
        stock.deliveries.insert(delivery_id.to_owned(), item.clone());
        stock.article(&item.sku).on_hand += item.quantity;
        Ok(true)
    }

    async fn find_delivery(&mut self, delivery_id: &str) -> anyhow::Result<Option<Item>> {
        Ok(stock(self).deliveries.get(delivery_id).cloned())
    }

    async fn on_hand(
        &mut self,
        articles: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeMap<String, u32>> {
        let stock = stock(self);
        let known = articles.iter().filter_map(|sku| stock.articles.get(sku));
        Ok(known.map(|article| (article.sku.clone(), article.on_hand)).collect())
    }

    async fn reserve(&mut self, items: &[(String, Item)], until: Timestamp) -> anyhow::Result<()> {
        let stock = stock(self);
        for (order_id, Item { sku, quantity }) in items {
            stock.article(sku).on_hand -= quantity;
            let reservation = Reservation {
                order_id: order_id.clone(),
                sku: sku.clone(),
                quantity: *quantity,
                state: ReservationState::Reserved,
                expires_at: until,
            };
            stock.reservations.insert((order_id.clone(), sku.clone()), reservation);
        }
        Ok(())
    }

    async fn release(&mut self, order_id: &str) -> anyhow::Result<()> {
        let stock = stock(self);
        let is_it = |it: &Reservation| it.is_open() && it.order_id == order_id;
        for it in stock.close(ReservationState::Released, is_it) {
            stock.article(&it.sku).on_hand += it.quantity;
        }
        Ok(())
    }

    async fn expire(&mut self, now: Timestamp, limit: usize) -> anyhow::Result<usize> {
        let stock = stock(self);
        let due = stock.reservations.values().filter(|it| it.is_open() && it.expires_at <= now);
        let mut due: Vec<_> = due.cloned().collect();
        due.sort_by_key(|it| it.expires_at);
        due.truncate(limit);
        for it in stock.close(ReservationState::Expired, |it| due.contains(it)) {
            stock.article(&it.sku).on_hand += it.quantity;
        }
        Ok(due.len())
    }

    async fn set_aside(&mut self, order_ids: &[String]) -> anyhow::Result<Vec<Reservation>> {
        let reservations = stock(self).reservations.values();
        Ok(reservations.filter(|it| order_ids.contains(&it.order_id)).cloned().collect())
    }

    async fn sell(&mut self, order_ids: &[String]) -> anyhow::Result<()> {
        let stock = stock(self);
        let is_it = |it: &Reservation| {
            let has_expired = it.state == ReservationState::Expired;
            (it.is_open() || has_expired) && order_ids.contains(&it.order_id)
        };
        for it in stock.close(ReservationState::Sold, is_it) {
            let article = stock.article(&it.sku);
            article.sold += it.quantity;
            if it.state == ReservationState::Expired {
                article.on_hand -= it.quantity;
            }
        }
        Ok(())
    }
}

impl<T: AsMut<Stock> + Clone + Send + Sync + 'static> StockQueries for MemoryConnection<T> {
    async fn articles(
        &mut self,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<Article>> {
        let articles = stock(self).articles.values();
        let articles = articles.filter(|it| after.is_none_or(|after| it.sku.as_str() > after));
        Ok(articles.take(limit).cloned().collect())
    }

    async fn article(&mut self, sku: &str) -> anyhow::Result<Option<Article>> {
        Ok(stock(self).articles.get(sku).cloned())
    }

    async fn reservations(
        &mut self,
        state: Option<ReservationState>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> anyhow::Result<Vec<Reservation>> {
        let reservations = stock(self).reservations.values().filter(|it| {
            state.is_none_or(|state| it.state == state)
                && after.is_none_or(|after| (it.order_id.as_str(), it.sku.as_str()) > after)
        });
        Ok(reservations.take(limit).cloned().collect())
    }

    async fn reservations_of(&mut self, order_id: &str) -> anyhow::Result<Vec<Reservation>> {
        let reservations = stock(self).reservations.values();
        Ok(reservations.filter(|it| it.order_id == order_id).cloned().collect())
    }
}

fn stock<T: AsMut<Stock> + Clone>(connection: &mut MemoryConnection<T>) -> &mut Stock {
    (**connection).as_mut()
}
