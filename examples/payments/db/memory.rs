//! The accounts in memory.

use std::collections::BTreeMap;

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
    fn balance(&mut self, account: &Account) -> anyhow::Result<&mut i64> {
        let standing = self.accounts.get_mut(account);
        let standing = standing.with_context(|| format!("there is no account {account}"))?;
        Ok(&mut standing.balance.minor)
    }
}

impl AccountRepository for MemoryConnection<Books> {
    async fn open(&mut self, account: &Account, is_frozen: bool) -> anyhow::Result<()> {
        let standing = Standing { balance: Money::new(0), is_frozen };
        self.accounts.insert(account.clone(), standing);
        Ok(())
    }

    async fn standing(&mut self, account: &Account) -> anyhow::Result<Option<Standing>> {
        Ok(self.accounts.get(account).cloned())
    }

    async fn transfer(
        &mut self,
        _reference: &str,
        _reason: &str,
        amount: &Money,
        from: &Account,
        to: &Account,
    ) -> anyhow::Result<()> {
        let left = *self.balance(from)? - amount.minor;
        ensure!(left >= 0 || *from == Account::bank(), "{from} does not have {amount}");
        *self.balance(from)? = left;
        *self.balance(to)? += amount.minor;
        Ok(())
    }

    async fn hold(&mut self, order_id: &str, hold: &Hold) -> anyhow::Result<()> {
        self.holds.insert(order_id.to_owned(), hold.clone());
        Ok(())
    }

    async fn held(&mut self, order_id: &str) -> anyhow::Result<Option<Hold>> {
        Ok(self.holds.get(order_id).cloned())
    }

    async fn close(&mut self, order_id: &str, _state: &str) -> anyhow::Result<()> {
        self.holds.remove(order_id);
        Ok(())
    }
}
