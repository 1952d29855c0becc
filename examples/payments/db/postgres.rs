//! The accounts in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use chassis::money::{CURRENCY, Money};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::{
    Account, AccountRepository, BookQueries, Entry, Hold, PaymentState, Standing, Summary,
    SummaryRepository,
};

impl AccountRepository for PgConnection {
    async fn open(&mut self, account: &Account, is_frozen: bool) -> anyhow::Result<bool> {
        let insert = "insert into account (id, currency, balance_minor, frozen)
            values ($1, $2, $3, $4) on conflict (id) do nothing";
        let insert = sqlx::query(insert).bind(account.as_str()).bind(CURRENCY);
        let insert = insert.bind(account.is_customer().then_some(0_i64)).bind(is_frozen);
        Ok(insert.execute(self).await?.rows_affected() == 1)
    }

    async fn deposit(
        &mut self,
        deposit_id: &str,
        account: &Account,
        amount: &Money,
    ) -> anyhow::Result<bool> {
        // Waits for a transaction that is making the same deposit, and sees what became of it.
        let insert = "insert into deposit (deposit_id, account, amount_minor, currency)
            values ($1, $2, $3, $4) on conflict (deposit_id) do nothing";
        let insert = sqlx::query(insert).bind(deposit_id).bind(account.as_str());
        let insert = insert.bind(amount.minor).bind(&amount.currency);
        if insert.execute(&mut *self).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let from = &Account::bank();
        let deposit = Transfer { reference: deposit_id, amount, from, to: account };
        transfer(self, "deposit", &[deposit]).await?;
        Ok(true)
    }

    async fn find_deposit(&mut self, deposit_id: &str) -> anyhow::Result<Option<(Account, Money)>> {
        let select = "select account, amount_minor, currency from deposit where deposit_id = $1";
        let row = sqlx::query(select).bind(deposit_id).fetch_optional(self).await?;
        let Some(row) = row else { return Ok(None) };
        let amount = Money { minor: row.try_get(1)?, currency: row.try_get(2)? };
        Ok(Some((Account(row.try_get(0)?), amount)))
    }

    async fn standings(
        &mut self,
        accounts: &BTreeSet<Account>,
    ) -> anyhow::Result<BTreeMap<Account, Standing>> {
        let ids: Vec<_> = accounts.iter().map(Account::as_str).collect();
        // In one order, so that two who lock the same accounts do not wait for each other; and `no key`, for a
        // row that refers to an account need not wait at all.
        let select = "select id, balance_minor, currency, frozen from account
            where id = any($1) and balance_minor is not null order by id for no key update";
        let rows = sqlx::query(select).bind(ids).fetch_all(self).await?;
        rows.iter().map(standing).collect()
    }

    async fn authorize(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        if holds.is_empty() {
            return Ok(());
        }
        let between = Account::held();
        let transfers: Vec<_> = holds.iter().map(|it| it.transfer(&it.account, &between)).collect();
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
            where order_id = any($1) and state = 'authorized' order by order_id for no key update of p";
        let rows = sqlx::query(select).bind(orders).fetch_all(self).await?;
        let held = |row: &PgRow| {
            let hold = hold(row)?;
            Ok((hold.order_id.clone(), (hold, row.try_get(4)?)))
        };
        rows.iter().map(held).collect()
    }

    async fn capture(&mut self, holds: &[Hold]) -> anyhow::Result<()> {
        if holds.is_empty() {
            return Ok(());
        }
        let (between, shop) = (Account::held(), Account::shop());
        let transfers: Vec<_> = holds.iter().map(|it| it.transfer(&between, &shop)).collect();
        transfer(self, "capture", &transfers).await?;
        close(self, holds, "captured").await
    }

    async fn void(&mut self, hold: &Hold) -> anyhow::Result<()> {
        let between = Account::held();
        transfer(self, "void", &[hold.transfer(&between, &hold.account)]).await?;
        close(self, std::slice::from_ref(hold), "voided").await
    }
}

impl BookQueries for PgConnection {
    async fn customers(
        &mut self,
        after: Option<&Account>,
        limit: usize,
    ) -> anyhow::Result<Vec<(Account, Standing)>> {
        let select = "select id, balance_minor, currency, frozen from account
            where balance_minor is not null and ($1::text is null or id > $1) order by id limit $2";
        let select = sqlx::query(select).bind(after.map(Account::as_str));
        let rows = select.bind(i64::try_from(limit)?).fetch_all(self).await?;
        rows.iter().map(standing).collect()
    }

    async fn entries(
        &mut self,
        account: &Account,
        after: Option<i64>,
        limit: usize,
    ) -> anyhow::Result<Vec<Entry>> {
        let select = "select id, reference, reason, amount_minor from entry
            where account = $1 and ($2::bigint is null or id < $2) order by id desc limit $3";
        let select = sqlx::query(select).bind(account.as_str()).bind(after);
        let rows = select.bind(i64::try_from(limit)?).fetch_all(self).await?;
        let entry = |row: PgRow| {
            let (id, reference) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Entry { id, reference, reason: row.try_get(2)?, minor: row.try_get(3)? })
        };
        rows.into_iter().map(entry).collect()
    }

    async fn payments(
        &mut self,
        state: Option<PaymentState>,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<(Hold, PaymentState)>> {
        let select = "select order_id, account, amount_minor, currency, state from payment
            where ($1::text is null or state = $1) and ($2::text is null or order_id > $2)
            order by order_id limit $3";
        let select = sqlx::query(select).bind(state.map(PaymentState::as_str)).bind(after);
        let rows = select.bind(i64::try_from(limit)?).fetch_all(self).await?;
        rows.iter().map(payment).collect()
    }

    async fn payment(&mut self, order_id: &str) -> anyhow::Result<Option<(Hold, PaymentState)>> {
        let select = "select order_id, account, amount_minor, currency, state from payment
            where order_id = $1";
        let row = sqlx::query(select).bind(order_id).fetch_optional(self).await?;
        row.as_ref().map(payment).transpose()
    }
}

impl SummaryRepository for PgConnection {
    async fn add_to_summary(&mut self, orders: &[String]) -> anyhow::Result<usize> {
        // In the order of accounts, so that two processes do not wait for each other.
        let add = "with paid as (select account, amount_minor from payment where order_id = any($1)),
            added as (insert into summary (account, orders, spent_minor)
                select account, count(*), sum(amount_minor)::bigint from paid group by account order by account
                on conflict (account) do update set orders = summary.orders + excluded.orders,
                    spent_minor = summary.spent_minor + excluded.spent_minor)
            select count(*) from paid";
        let counted: i64 = sqlx::query_scalar(add).bind(orders).fetch_one(self).await?;
        Ok(usize::try_from(counted)?)
    }

    async fn summary(&mut self, account: &Account) -> anyhow::Result<Summary> {
        let select = "select orders, spent_minor from summary where account = $1";
        let row = sqlx::query(select).bind(account.as_str()).fetch_optional(self).await?;
        let Some(row) = row else { return Ok(Summary::default()) };
        Ok(Summary { orders: row.try_get(0)?, minor: row.try_get(1)? })
    }
}

fn standing(row: &PgRow) -> anyhow::Result<(Account, Standing)> {
    let balance = Money { minor: row.try_get(1)?, currency: row.try_get(2)? };
    Ok((Account(row.try_get(0)?), Standing { balance, is_frozen: row.try_get(3)? }))
}

fn hold(row: &PgRow) -> anyhow::Result<Hold> {
    let amount = Money { minor: row.try_get(2)?, currency: row.try_get(3)? };
    Ok(Hold { order_id: row.try_get(0)?, account: Account(row.try_get(1)?), amount })
}

fn payment(row: &PgRow) -> anyhow::Result<(Hold, PaymentState)> {
    Ok((hold(row)?, PaymentState::parse(row.try_get(4)?)?))
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
        let accounts = change.execute(&mut *connection).await?.rows_affected();
        ensure!(
            accounts == changes.len() as u64,
            "one of these accounts does not exist: {changes:?}"
        );
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
