//! The accounts in memory.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use saga_core::MemoryConnection;

use super::{Account, AccountRepository, Hold, Standing};
use crate::shared::money::Money;

/// The tables, in memory. The ledger is only what it adds up to.
#[derive(Debug, Clone, Default)]
pub struct Books {
    accounts: BTreeMap<Account, Standing>,
    holds: BTreeMap<String, Hold>,
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
        Self { accounts: accounts.collect(), holds: BTreeMap::new() }
    }

    /// Returns what is on an account, in cents; nothing if there is none of this name.
    #[must_use]
    pub fn on(&self, account: &Account) -> i64 {
        self.accounts.get(account).map_or(0, |it| it.balance.minor)
    }

    fn transfer(&mut self, amount: &Money, from: &Account, to: &Account) -> anyhow::Result<()> {
        let left = *self.balance(from)? - amount.minor;
        ensure!(left >= 0 || *from == Account::bank(), "{from} does not have {amount}");
        *self.balance(from)? = left;
        *self.balance(to)? += amount.minor;
        Ok(())
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
    async fn open(&mut self, account: &Account, is_frozen: bool) -> anyhow::Result<()> {
        let standing = Standing { balance: Money::new(0), is_frozen };
        books(self).accounts.insert(account.clone(), standing);
        Ok(())
    }

    async fn deposit(&mut self, _: &str, account: &Account, amount: &Money) -> anyhow::Result<()> {
        books(self).transfer(amount, &Account::bank(), account)
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
            books.transfer(&hold.amount, &hold.account, &Account::held())?;
            books.holds.insert(hold.order_id.clone(), hold.clone());
        }
        Ok(())
    }

    async fn held(&mut self, orders: &[String]) -> anyhow::Result<BTreeMap<String, (Hold, bool)>> {
        let books = books(self);
        let held = orders.iter().filter_map(|it| books.holds.get(it)).map(|hold| {
            let is_frozen = books.accounts.get(&hold.account).is_some_and(|it| it.is_frozen);
            (hold.order_id.clone(), (hold.clone(), is_frozen))
        });
        Ok(held.collect())
    }

    async fn capture(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        let books = books(self);
        for hold in holds {
            books.transfer(&hold.amount, &Account::held(), &Account::shop())?;
            books.holds.remove(&hold.order_id);
        }
        Ok(())
    }

    async fn void(&mut self, hold: &Hold) -> anyhow::Result<()> {
        let books = books(self);
        books.transfer(&hold.amount, &Account::held(), &hold.account)?;
        books.holds.remove(&hold.order_id);
        Ok(())
    }
}

fn books<T: AsMut<Books> + Clone>(connection: &mut MemoryConnection<T>) -> &mut Books {
    (**connection).as_mut()
}
