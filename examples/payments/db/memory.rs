//! The accounts in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use anyhow::{Context as _, ensure};
use chassis::money::Money;
use saga_core::MemoryConnection;

use super::{
    Account, AccountRepository, BookQueries, Entry, Hold, PaymentState, Standing, Summary,
    SummaryRepository,
};

/// The tables, in memory.
#[derive(Debug, Clone, Default)]
pub struct Books {
    accounts: BTreeMap<Account, Standing>,
    payments: BTreeMap<String, (Hold, PaymentState)>,
    deposits: BTreeMap<String, (Account, Money)>,
    entries: Vec<(Account, Entry)>,
    summaries: BTreeMap<Account, Summary>,
}

impl Books {
    /// Opens the shop's accounts, and those of customers with what they have, in cents.
    #[must_use]
    pub fn new(customers: &[(&str, i64)]) -> Self {
        let own = [(Account::held(), 0), (Account::shop(), 0)];
        let customers = customers.iter().map(|&(user, minor)| (Account::customer(user), minor));
        let accounts = own.into_iter().chain(customers).map(|(account, minor)| {
            (account, Standing { balance: Money::new(minor), is_frozen: false })
        });
        Self { accounts: accounts.collect(), ..Self::default() }
    }

    /// Returns what is on an account, in cents; nothing if there is none of this name.
    #[must_use]
    pub fn on(&self, account: &Account) -> i64 {
        self.accounts.get(account).map_or(0, |it| it.balance.minor)
    }

    fn transfer(
        &mut self,
        (reference, reason): (&str, &str),
        amount: &Money,
        from: &Account,
        to: &Account,
    ) -> anyhow::Result<()> {
        let left = *self.balance(from)? - amount.minor;
        ensure!(left >= 0 || *from == Account::bank(), "{from} does not have {amount}");
        *self.balance(from)? = left;
        *self.balance(to)? += amount.minor;
        for (account, minor) in [(from, -amount.minor), (to, amount.minor)] {
            let id = i64::try_from(self.entries.len())?;
            let (reference, reason) = (reference.to_owned(), reason.to_owned());
            self.entries.push((account.clone(), Entry { id, reference, reason, minor }));
        }
        Ok(())
    }

    /// Notes what becomes of what is held for an order.
    fn close(&mut self, order_id: &str, state: PaymentState) {
        if let Some(payment) = self.payments.get_mut(order_id) {
            payment.1 = state;
        }
    }

    fn balance(&mut self, account: &Account) -> anyhow::Result<&mut i64> {
        let standing = self.accounts.get_mut(account);
        let standing = standing.with_context(|| format!("there is no account {account}"))?;
        Ok(&mut standing.balance.minor)
    }
}

impl AsMut<Self> for Books {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// On whatever state has the books in it.
impl<T: AsMut<Books> + Clone + Send + Sync + 'static> AccountRepository for MemoryConnection<T> {
    async fn open(&mut self, account: &Account, is_frozen: bool) -> anyhow::Result<bool> {
        let books = books(self);
        if books.accounts.contains_key(account) {
            return Ok(false);
        }
        let standing = Standing { balance: Money::new(0), is_frozen };
        books.accounts.insert(account.clone(), standing);
        Ok(true)
    }

    async fn deposit(
        &mut self,
        deposit_id: &str,
        account: &Account,
        amount: &Money,
    ) -> anyhow::Result<bool> {
        let books = books(self);
        if books.deposits.contains_key(deposit_id) {
            return Ok(false);
        }
        books.deposits.insert(deposit_id.to_owned(), (account.clone(), amount.clone()));
        books.transfer((deposit_id, "deposit"), amount, &Account::bank(), account)?;
        Ok(true)
    }

    async fn find_deposit(&mut self, deposit_id: &str) -> anyhow::Result<Option<(Account, Money)>> {
        Ok(books(self).deposits.get(deposit_id).cloned())
    }

    async fn standings(
        &mut self,
        accounts: &BTreeSet<Account>,
    ) -> anyhow::Result<BTreeMap<Account, Standing>> {
        let books = books(self);
        let standings = accounts.iter().filter_map(|it| books.accounts.get_key_value(it));
        Ok(standings.map(|(account, standing)| (account.clone(), standing.clone())).collect())
    }

    async fn authorize(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        let books = books(self);
        for hold in holds {
            let why = (hold.order_id.as_str(), "authorize");
            books.transfer(why, &hold.amount, &hold.account, &Account::held())?;
            let payment = (hold.clone(), PaymentState::Authorized);
            books.payments.insert(hold.order_id.clone(), payment);
        }
        Ok(())
    }

    async fn held(&mut self, orders: &[String]) -> anyhow::Result<BTreeMap<String, (Hold, bool)>> {
        let books = books(self);
        let payments = orders.iter().filter_map(|it| books.payments.get(it));
        let held = payments.filter(|(_, state)| *state == PaymentState::Authorized);
        let held = held.map(|(hold, _)| {
            let is_frozen = books.accounts.get(&hold.account).is_some_and(|it| it.is_frozen);
            (hold.order_id.clone(), (hold.clone(), is_frozen))
        });
        Ok(held.collect())
    }

    async fn capture(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        let books = books(self);
        for hold in holds {
            let why = (hold.order_id.as_str(), "capture");
            books.transfer(why, &hold.amount, &Account::held(), &Account::shop())?;
            books.close(&hold.order_id, PaymentState::Captured);
        }
        Ok(())
    }

    async fn void(&mut self, hold: &Hold) -> anyhow::Result<()> {
        let books = books(self);
        let why = (hold.order_id.as_str(), "void");
        books.transfer(why, &hold.amount, &Account::held(), &hold.account)?;
        books.close(&hold.order_id, PaymentState::Voided);
        Ok(())
    }
}

impl<T: AsMut<Books> + Clone + Send + Sync + 'static> BookQueries for MemoryConnection<T> {
    async fn customers(
        &mut self,
        after: Option<&Account>,
        limit: usize,
    ) -> anyhow::Result<Vec<(Account, Standing)>> {
        let behind = (after.map_or(Unbounded, Excluded), Unbounded);
        let accounts = books(self).accounts.range::<Account, _>(behind);
        let accounts = accounts.filter(|(account, _)| account.is_customer()).take(limit);
        Ok(accounts.map(|(account, standing)| (account.clone(), standing.clone())).collect())
    }

    async fn entries(
        &mut self,
        account: &Account,
        after: Option<i64>,
        limit: usize,
    ) -> anyhow::Result<Vec<Entry>> {
        let entries = books(self).entries.iter().rev().filter(|(of, _)| of == account);
        let entries = entries.map(|(_, entry)| entry);
        let entries = entries.filter(|entry| after.is_none_or(|after| entry.id < after));
        Ok(entries.take(limit).cloned().collect())
    }

    async fn payments(
        &mut self,
        state: Option<PaymentState>,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<(Hold, PaymentState)>> {
        let behind = (after.map_or(Unbounded, Excluded), Unbounded);
        let payments = books(self).payments.range::<str, _>(behind).map(|(_, payment)| payment);
        let payments = payments.filter(|(_, it)| state.is_none_or(|state| *it == state));
        Ok(payments.take(limit).cloned().collect())
    }

    async fn payment(&mut self, order_id: &str) -> anyhow::Result<Option<(Hold, PaymentState)>> {
        Ok(books(self).payments.get(order_id).cloned())
    }
}

impl<T: AsMut<Books> + Clone + Send + Sync + 'static> SummaryRepository for MemoryConnection<T> {
    async fn add_to_summary(&mut self, orders: &[String]) -> anyhow::Result<usize> {
        let Books { payments, summaries, .. } = books(self);
        let paid: Vec<_> = orders.iter().filter_map(|it| payments.get(it)).collect();
        for (hold, _) in &paid {
            let summary = summaries.entry(hold.account.clone()).or_default();
            summary.orders += 1;
            summary.minor += hold.amount.minor;
        }
        Ok(paid.len())
    }

    async fn summary(&mut self, account: &Account) -> anyhow::Result<Summary> {
        Ok(books(self).summaries.get(account).copied().unwrap_or_default())
    }
}

fn books<T: AsMut<Books> + Clone>(connection: &mut MemoryConnection<T>) -> &mut Books {
    (**connection).as_mut()
}
