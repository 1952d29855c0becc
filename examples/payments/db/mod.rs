//! Accounts, ledger and payments: what the handlers need of a database.

mod memory;
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use crate::shared::money::Money;

pub use memory::Books;

/// The name of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account(String);

impl Account {
    /// The account of a customer.
    #[must_use]
    pub fn customer(user_id: &str) -> Self {
        Self(format!("customer:{user_id}"))
    }

    /// Returns true if it is a customer's.
    #[must_use]
    pub fn is_customer(&self) -> bool {
        self.0.starts_with("customer:")
    }

    /// Where customers' money comes from.
    #[must_use]
    pub fn bank() -> Self {
        Self("bank".to_owned())
    }

    /// Where money is between being authorized and being captured or voided.
    #[must_use]
    pub fn held() -> Self {
        Self("held".to_owned())
    }

    /// What the shop has earned.
    #[must_use]
    pub fn shop() -> Self {
        Self("shop".to_owned())
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an account stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What is on it.
    pub balance: Money,
    /// Whether the customer's bank will refuse to pay.
    pub is_frozen: bool,
}

/// Money that is held for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The order.
    pub order_id: String,
    /// Whose money it is.
    pub account: Account,
    /// How much.
    pub amount: Money,
}

/// Accounts, ledger and payments, through an open transaction.
///
/// Each movement of money is two entries of the ledger that sum to zero.
pub trait AccountRepository: Send + 'static {
    /// Opens an account, with nothing on it.
    fn open(
        &mut self,
        account: &Account,
        is_frozen: bool,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts money on a customer's account.
    fn deposit(
        &mut self,
        reference: &str,
        account: &Account,
        amount: &Money,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns how accounts of customers stand, and keeps others from changing them until the transaction
    /// ends. One that does not exist is left out.
    fn standings(
        &mut self,
        accounts: &BTreeSet<Account>,
    ) -> impl Future<Output = anyhow::Result<BTreeMap<Account, Standing>>> + Send;

    /// Moves money from the customers' accounts to `held`.
    ///
    /// # Errors
    ///
    /// If an account does not exist or does not have that much.
    fn authorize(&mut self, holds: &[Hold]) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns what is still held for orders, and whether its account is frozen by now.
    fn held(
        &mut self,
        order_ids: &[String],
    ) -> impl Future<Output = anyhow::Result<BTreeMap<String, (Hold, bool)>>> + Send;

    /// Moves money from `held` to `shop`.
    fn capture(&mut self, holds: &[Hold]) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Moves money from `held` back to where it came from.
    fn void(&mut self, hold: &Hold) -> impl Future<Output = anyhow::Result<()>> + Send;
}
