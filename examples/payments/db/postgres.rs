//! The accounts in PostgreSQL.

use anyhow::ensure;
use sqlx::{PgConnection, Row as _};

use super::{Account, AccountRepository, Hold, Standing};
use crate::shared::money::{CURRENCY, Money};

impl AccountRepository for PgConnection {
    async fn open(&mut self, account: &Account, is_frozen: bool) -> anyhow::Result<()> {
        let insert =
            "insert into account (id, currency, balance_minor, frozen) values ($1, $2, $3, $4)";
        let insert = sqlx::query(insert).bind(account.as_str()).bind(CURRENCY);
        let insert = insert.bind(account.is_customer().then_some(0_i64)).bind(is_frozen);
        insert.execute(self).await?;
        Ok(())
    }

    async fn standing(&mut self, account: &Account) -> anyhow::Result<Option<Standing>> {
        let select = "select balance_minor, currency, frozen from account where id = $1 for update";
        let row = sqlx::query(select).bind(account.as_str()).fetch_optional(self).await?;
        let Some(row) = row else { return Ok(None) };
        let balance = Money { minor: row.try_get(0)?, currency: row.try_get(1)? };
        Ok(Some(Standing { balance, is_frozen: row.try_get(2)? }))
    }

    async fn transfer(
        &mut self,
        reference: &str,
        reason: &str,
        amount: &Money,
        from: &Account,
        to: &Account,
    ) -> anyhow::Result<()> {
        for (account, minor) in [(from, -amount.minor), (to, amount.minor)] {
            if account.is_customer() {
                let change = "update account set balance_minor = balance_minor + $2 where id = $1";
                let change = sqlx::query(change).bind(account.as_str()).bind(minor);
                let changed = change.execute(&mut *self).await?.rows_affected();
                ensure!(changed == 1, "there is no account {account}");
            }
        }
        let entries = "insert into entry (reference, reason, account, amount_minor)
            values ($4, $5, $1, -$3::bigint), ($4, $5, $2, $3::bigint)";
        let entries = sqlx::query(entries).bind(from.as_str()).bind(to.as_str()).bind(amount.minor);
        entries.bind(reference).bind(reason).execute(self).await?;
        Ok(())
    }

    async fn hold(&mut self, order_id: &str, hold: &Hold) -> anyhow::Result<()> {
        let insert = "insert into payment (order_id, account, amount_minor, currency)
            values ($1, $2, $3, $4)";
        let insert = sqlx::query(insert).bind(order_id).bind(hold.account.as_str());
        insert.bind(hold.amount.minor).bind(&hold.amount.currency).execute(self).await?;
        Ok(())
    }

    async fn held(&mut self, order_id: &str) -> anyhow::Result<Option<Hold>> {
        let select = "select account, amount_minor, currency from payment
            where order_id = $1 and state = 'authorized' for update";
        let row = sqlx::query(select).bind(order_id).fetch_optional(self).await?;
        let Some(row) = row else { return Ok(None) };
        let amount = Money { minor: row.try_get(1)?, currency: row.try_get(2)? };
        Ok(Some(Hold { account: Account(row.try_get(0)?), amount }))
    }

    async fn close(&mut self, order_id: &str, state: &str) -> anyhow::Result<()> {
        let update = "update payment set state = $2 where order_id = $1";
        sqlx::query(update).bind(order_id).bind(state).execute(self).await?;
        Ok(())
    }
}
