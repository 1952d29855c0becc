//! Stock and reservations: what the service needs of a database.

mod memory;
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use anyhow::Context as _;
use saga_core::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::contract::messages::inventory::Item;

pub use memory::Stock;

/// An article, and how many pieces of it there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Article {
    /// The article.
    #[schema(example = "coffee-beans")]
    pub sku: String,
    /// How many pieces can be reserved.
    #[schema(example = 20_000)]
    pub on_hand: u32,
    /// How many were sold.
    #[schema(example = 12)]
    pub sold: u32,
}

/// What became of pieces that were set aside for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReservationState {
    /// They are set aside.
    Reserved,
    /// They were put back.
    Released,
    /// They are the customer's.
    Sold,
    /// They were put back because the order did not end in time.
    Expired,
}

impl ReservationState {
    /// Returns the word that is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Released => "released",
            Self::Sold => "sold",
            Self::Expired => "expired",
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        [Self::Reserved, Self::Released, Self::Sold, Self::Expired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .context("a reservation has an unknown state")
    }
}

/// Pieces of an article that were set aside for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reservation {
    /// The order.
    #[schema(example = "o-1")]
    pub order_id: String,
    /// The article.
    #[schema(example = "coffee-beans")]
    pub sku: String,
    /// How many pieces.
    #[schema(example = 2)]
    pub quantity: u32,
    /// What became of them.
    pub state: ReservationState,
    /// When they go back if the order has not ended: ISO 8601, in UTC.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "2026-01-31T12:00:00Z")]
    pub expires_at: Timestamp,
}

impl Reservation {
    /// Returns true if the pieces are set aside.
    pub(super) fn is_open(&self) -> bool {
        self.state == ReservationState::Reserved
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like this")]
fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Stock and reservations, through an open transaction.
pub trait StockRepository: Send + 'static {
    /// Adds new pieces of an article. Returns false if a delivery of this id came before, and leaves
    /// everything as it is.
    fn deliver(
        &mut self,
        delivery_id: &str,
        item: &Item,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Returns a delivery.
    fn find_delivery(
        &mut self,
        delivery_id: &str,
    ) -> impl Future<Output = anyhow::Result<Option<Item>>> + Send;

    /// Returns how many pieces of articles can be reserved, and keeps others from reserving them until the
    /// transaction ends. An unknown article is left out.
    fn on_hand(
        &mut self,
        articles: &BTreeSet<String>,
    ) -> impl Future<Output = anyhow::Result<BTreeMap<String, u32>>> + Send;

    /// Sets pieces that are on hand aside for orders, until a time at most.
    fn reserve(
        &mut self,
        items: &[(String, Item)],
        until: Timestamp,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts what is set aside for an order back.
    fn release(&mut self, order_id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts back what was to be set aside until `now` at most, the oldest first, and returns how many reservations
    /// that were. What another transaction has in hand is left alone.
    fn expire(
        &mut self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<usize>> + Send;

    /// Returns what was ever set aside for orders, and keeps it as it is until the transaction ends.
    fn set_aside(
        &mut self,
        order_ids: &[String],
    ) -> impl Future<Output = anyhow::Result<Vec<Reservation>>> + Send;

    /// Turns what is set aside for orders into what is sold. What has expired is taken from what is on hand.
    fn sell(&mut self, order_ids: &[String]) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What can be looked up in the warehouse, through an open transaction. Lists begin behind a place.
pub trait StockQueries: StockRepository {
    /// Returns articles, by name.
    fn articles(
        &mut self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<Article>>> + Send;

    /// Returns an article.
    fn article(
        &mut self,
        sku: &str,
    ) -> impl Future<Output = anyhow::Result<Option<Article>>> + Send;

    /// Returns reservations, by order and article.
    fn reservations(
        &mut self,
        state: Option<ReservationState>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<Reservation>>> + Send;

    /// Returns the reservations of an order.
    fn reservations_of(
        &mut self,
        order_id: &str,
    ) -> impl Future<Output = anyhow::Result<Vec<Reservation>>> + Send;
}
