//! Accounts, ledger and payments: what the handlers need of a database.

mod memory;
mod postgres;

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
    /// Whose money it is.
    pub account: Account,
    /// How much.
    pub amount: Money,
}

/// Accounts, ledger and payments, through an open transaction.
pub trait AccountRepository: Send + 'static {
    /// Opens an account, with nothing on it.
    fn open(
        &mut self,
        account: &Account,
        is_frozen: bool,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns how a customer's account stands, and keeps others from changing it until the transaction ends.
    fn standing(
        &mut self,
        account: &Account,
    ) -> impl Future<Output = anyhow::Result<Option<Standing>>> + Send;

    /// Moves money from one account to another: two entries that sum to zero.
    ///
    /// # Errors
    ///
    /// If an account does not exist or does not have that much.
    fn transfer(
        &mut self,
        reference: &str,
        reason: &str,
        amount: &Money,
        from: &Account,
        to: &Account,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Remembers what is held for an order.
    fn hold(
        &mut self,
        order_id: &str,
        hold: &Hold,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns what is still held for an order.
    fn held(&mut self, order_id: &str)
    -> impl Future<Output = anyhow::Result<Option<Hold>>> + Send;

    /// Remembers what became of what was held: `captured` or `voided`.
    fn close(
        &mut self,
        order_id: &str,
        state: &str,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}
