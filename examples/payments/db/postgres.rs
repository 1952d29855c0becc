//! The accounts in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use sqlx::postgres::PgRow;
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

    async fn deposit(
        &mut self,
        reference: &str,
        account: &Account,
        amount: &Money,
    ) -> anyhow::Result<()> {
        let (from, reason) = (&Account::bank(), "deposit");
        transfer(self, reason, &[Transfer { reference, amount, from, to: account }]).await
    }

    async fn standings(
        &mut self,
        accounts: &BTreeSet<Account>,
    ) -> anyhow::Result<BTreeMap<Account, Standing>> {
        let ids: Vec<_> = accounts.iter().map(Account::as_str).collect();
        // In one order, so that two who lock the same accounts do not wait for each other.
        let select = "select id, balance_minor, currency, frozen from account
            where id = any($1) and balance_minor is not null order by id for update";
        let rows = sqlx::query(select).bind(ids).fetch_all(self).await?;
        let standing = |row: PgRow| {
            let balance = Money { minor: row.try_get(1)?, currency: row.try_get(2)? };
            Ok((Account(row.try_get(0)?), Standing { balance, is_frozen: row.try_get(3)? }))
        };
        rows.into_iter().map(standing).collect()
    }

    async fn authorize(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        if holds.is_empty() {
            return Ok(());
        }
        let held = Account::held();
        let transfers: Vec<_> = holds.iter().map(|it| it.transfer(&it.account, &held)).collect();
        transfer(self, "authorize", &transfers).await?;
        let insert = "insert into payment (order_id, account, amount_minor, currency)
            select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[])";
        let insert = sqlx::query(insert)
            .bind(ids(holds))
            .bind(holds.iter().map(|it| it.account.as_str()).collect::<Vec<_>>())
            .bind(holds.iter().map(|it| it.amount.minor).collect::<Vec<_>>())
            .bind(holds.iter().map(|it| it.amount.currency.as_str()).collect::<Vec<_>>());
        insert.execute(self).await?;
        Ok(())
    }

    async fn held(&mut self, orders: &[String]) -> anyhow::Result<BTreeMap<String, (Hold, bool)>> {
        let select = "select order_id, account, amount_minor, p.currency, frozen
            from payment p join account on id = account
            where order_id = any($1) and state = 'authorized' order by order_id for update of p";
        let rows = sqlx::query(select).bind(orders).fetch_all(self).await?;
        let held = |row: PgRow| {
            let order_id: String = row.try_get(0)?;
            let amount = Money { minor: row.try_get(2)?, currency: row.try_get(3)? };
            let hold =
                Hold { order_id: order_id.clone(), account: Account(row.try_get(1)?), amount };
            Ok((order_id, (hold, row.try_get(4)?)))
        };
        rows.into_iter().map(held).collect()
    }

    async fn capture(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        if holds.is_empty() {
            return Ok(());
        }
        let (held, shop) = (Account::held(), Account::shop());
        let transfers: Vec<_> = holds.iter().map(|it| it.transfer(&held, &shop)).collect();
        transfer(self, "capture", &transfers).await?;
        close(self, holds, "captured").await
    }

    async fn void(&mut self, hold: &Hold) -> anyhow::Result<()> {
        let held = Account::held();
        transfer(self, "void", &[hold.transfer(&held, &hold.account)]).await?;
        close(self, std::slice::from_ref(hold), "voided").await
    }
}

/// A movement of money.
struct Transfer<'a> {
    reference: &'a str,
    amount: &'a Money,
    from: &'a Account,
    to: &'a Account,
}

impl Hold {
    fn transfer<'a>(&'a self, from: &'a Account, to: &'a Account) -> Transfer<'a> {
        Transfer { reference: &self.order_id, amount: &self.amount, from, to }
    }
}

/// Moves money: each movement is two entries, and customers' balances follow.
async fn transfer(
    connection: &mut PgConnection,
    reason: &str,
    transfers: &[Transfer<'_>],
) -> anyhow::Result<()> {
    let mut changes: BTreeMap<&Account, i64> = BTreeMap::new();
    for Transfer { amount, from, to, .. } in transfers {
        for (account, minor) in [(from, -amount.minor), (to, amount.minor)] {
            if account.is_customer() {
                *changes.entry(account).or_default() += minor;
            }
        }
    }
    if !changes.is_empty() {
        let change = "update account set balance_minor = balance_minor + change
            from unnest($1::text[], $2::bigint[]) as changes (account, change) where id = account";
        let change = sqlx::query(change)
            .bind(changes.keys().map(|it| it.as_str()).collect::<Vec<_>>())
            .bind(changes.values().copied().collect::<Vec<_>>());
        let changed = change.execute(&mut *connection).await?.rows_affected();
        ensure!(changed == changes.len() as u64, "one of these accounts does not exist: {changes:?}");
    }
    let entries = "insert into entry (reference, reason, account, amount_minor)
        select reference, $1, account, minor
        from unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) as it (reference, source, target, amount),
            lateral (values (source, -amount), (target, amount)) as entries (account, minor)";
    let entries = sqlx::query(entries)
        .bind(reason)
        .bind(transfers.iter().map(|it| it.reference).collect::<Vec<_>>())
        .bind(transfers.iter().map(|it| it.from.as_str()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|it| it.to.as_str()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|it| it.amount.minor).collect::<Vec<_>>());
    entries.execute(connection).await?;
    Ok(())
}

/// Remembers what became of what was held.
async fn close(connection: &mut PgConnection, holds: &[Hold], state: &str) -> anyhow::Result<()> {
    let update = "update payment set state = $2 where order_id = any($1)";
    sqlx::query(update).bind(ids(holds)).bind(state).execute(connection).await?;
    Ok(())
}

fn ids(holds: &[Hold]) -> Vec<&str> {
    holds.iter().map(|it| it.order_id.as_str()).collect()
}
