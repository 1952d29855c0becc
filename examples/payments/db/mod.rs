//! Accounts, ledger and payments: what the handlers need of a database.

mod memory;
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use anyhow::Context as _;
use chassis::money::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

    /// Returns whose it is, if it is a customer's.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.0.strip_prefix("customer:")
    }

    /// Returns true if it is a customer's.
    #[must_use]
    pub fn is_customer(&self) -> bool {
        self.user_id().is_some()
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

/// What became of money that was held for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PaymentState {
    /// It is held.
    Authorized,
    /// The shop has it.
    Captured,
    /// The customer has it again.
    Voided,
}

impl PaymentState {
    /// Returns the word that is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Voided => "voided",
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        [Self::Authorized, Self::Captured, Self::Voided]
            .into_iter()
            .find(|state| state.as_str() == text)
            .context("a payment has an unknown state")
    }
}

/// One of the two sides of a movement of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in the ledger.
    pub id: i64,
    /// The order or the deposit that the money moved for.
    pub reference: String,
    /// Why: `deposit`, `authorize`, `capture` or `void`.
    pub reason: String,
    /// What came onto the account, in the smallest unit of its currency; less than 0 if it went away.
    pub minor: i64,
}

/// What a customer has spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many orders were confirmed.
    pub orders: i64,
    /// What they cost, in the smallest unit of the account's currency.
    pub minor: i64,
}

/// Accounts, ledger and payments, through an open transaction.
///
/// Each movement of money is two entries of the ledger that sum to zero.
pub trait AccountRepository: Send + 'static {
    /// Opens an account, with nothing on it. Returns false if it is open, and leaves it as it is.
    fn open(
        &mut self,
        account: &Account,
        is_frozen: bool,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Puts money on a customer's account. Returns false if a deposit of this id was made before, and
    /// leaves everything as it is.
    fn deposit(
        &mut self,
        deposit_id: &str,
        account: &Account,
        amount: &Money,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Returns a deposit: the account and what was put on it.
    fn find_deposit(
        &mut self,
        deposit_id: &str,
    ) -> impl Future<Output = anyhow::Result<Option<(Account, Money)>>> + Send;

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

/// What can be looked up in the books, through an open transaction. Lists begin behind a place.
pub trait BookQueries: AccountRepository {
    /// Returns the accounts of customers, by name.
    fn customers(
        &mut self,
        after: Option<&Account>,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<(Account, Standing)>>> + Send;

    /// Returns the entries of an account, the newest first.
    fn entries(
        &mut self,
        account: &Account,
        after: Option<i64>,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<Entry>>> + Send;

    /// Returns payments, by order.
    fn payments(
        &mut self,
        state: Option<PaymentState>,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<(Hold, PaymentState)>>> + Send;

    /// Returns the payment for an order.
    fn payment(
        &mut self,
        order_id: &str,
    ) -> impl Future<Output = anyhow::Result<Option<(Hold, PaymentState)>>> + Send;
}

/// What customers have spent, through an open transaction.
pub trait SummaryRepository: Send + 'static {
    /// Counts confirmed orders, each for whoever paid for it. Returns for how many somebody did.
    fn add_to_summary(
        &mut self,
        orders: &[String],
    ) -> impl Future<Output = anyhow::Result<usize>> + Send;

    /// Returns what a customer has spent.
    fn summary(
        &mut self,
        account: &Account,
    ) -> impl Future<Output = anyhow::Result<Summary>> + Send;
}
