//! An order, as the orders service knows it.

use chassis::money::Money;
use saga_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use crate::contract::OrderCreated;
use crate::contract::messages;

/// What a customer ordered, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The order, named by the customer's program.
    pub order_id: String,
    /// The customer.
    pub user_id: String,
    /// The total.
    pub amount: Money,
    /// What is ordered; empty if the order names no goods.
    pub items: Vec<Item>,
    /// What became of it.
    pub status: Status,
    /// Why it was rejected, if it was: a code such as `card-declined`.
    pub reason: Option<String>,
    /// When it was placed.
    pub placed_at: Timestamp,
}

/// Some pieces of one article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// The article.
    pub sku: String,
    /// How many pieces.
    pub quantity: u32,
}

/// What a customer asked for, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlacedOrder {
    /// The order.
    #[schema(example = "o-1")]
    order_id: String,
    /// The customer.
    #[schema(example = "u-1")]
    user_id: String,
    /// The total, as an exact decimal.
    #[schema(value_type = f64, example = 123.45)]
    amount: Number,
    /// The ISO 4217 code of its currency.
    #[schema(example = "EUR")]
    currency: String,
    /// What was ordered; empty if no goods were named.
    items: Vec<Item>,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its saga is on its way.
    Pending,
    /// It is paid for, and its goods are the customer's.
    Confirmed,
    /// Nothing is paid and nothing is reserved.
    Rejected,
}

impl Status {
    /// Returns the word that is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Confirmed, Self::Rejected]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

impl Order {
    /// Returns true if the customer asked for the same thing both times.
    #[must_use]
    pub fn is_same_request(&self, other: &Self) -> bool {
        let request =
            |order: &Self| (order.user_id.clone(), order.amount.clone(), order.items.clone());
        self.order_id == other.order_id && request(self) == request(other)
    }

    /// Returns what the customer asked for: the same whenever they ask again.
    #[must_use]
    pub fn as_placed(&self) -> PlacedOrder {
        PlacedOrder {
            order_id: self.order_id.clone(),
            user_id: self.user_id.clone(),
            amount: self.amount.as_number(),
            currency: self.amount.currency.clone(),
            items: self.items.clone(),
        }
    }

    /// Returns the fact that the order exists.
    #[must_use]
    pub fn created(&self) -> OrderCreated {
        let item =
            |item: &Item| messages::orders::Item { sku: item.sku.clone(), quantity: item.quantity };
        OrderCreated {
            order_id: self.order_id.clone(),
            user_id: self.user_id.clone(),
            amount: self.amount.as_float(),
            amount_minor: self.amount.minor,
            currency: self.amount.currency.clone(),
            items: self.items.iter().map(item).collect(),
        }
    }
}
