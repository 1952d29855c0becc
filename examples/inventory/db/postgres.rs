//! The warehouse in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};

use saga_core::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::{Article, Reservation, ReservationState, StockQueries, StockRepository};
use crate::contract::messages::inventory::Item;

impl StockRepository for PgConnection {
    async fn deliver(&mut self, delivery_id: &str, item: &Item) -> anyhow::Result<bool> {
        let quantity = i64::from(item.quantity);
        // Waits for a transaction that brings the same delivery, and sees what became of it.
        let insert = "insert into delivery (delivery_id, sku, quantity) values ($1, $2, $3)
            on conflict (delivery_id) do nothing";
        let insert = sqlx::query(insert).bind(delivery_id).bind(&item.sku).bind(quantity);
        if insert.execute(&mut *self).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let deliver = "insert into stock (sku, on_hand) values ($1, $2)
            on conflict (sku) do update set on_hand = stock.on_hand + excluded.on_hand";
        sqlx::query(deliver).bind(&item.sku).bind(quantity).execute(self).await?;
        Ok(true)
    }

    async fn find_delivery(&mut self, delivery_id: &str) -> anyhow::Result<Option<Item>> {
        let select = "select sku, quantity from delivery where delivery_id = $1";
        let row = sqlx::query(select).bind(delivery_id).fetch_optional(self).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Item { sku: row.try_get(0)?, quantity: pieces(&row, 1)? }))
    }

    async fn on_hand(
        &mut self,
        articles: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeMap<String, u32>> {
        let articles: Vec<_> = articles.iter().collect();
        // In one order, so that two who lock the same articles do not wait for each other; and `no key`, for a
        // row that refers to an article need not wait at all.
        let select =
            "select sku, on_hand from stock where sku = any($1) order by sku for no key update";
        let rows = sqlx::query(select).bind(articles).fetch_all(self).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, pieces(row, 1)?))).collect()
    }

    async fn reserve(&mut self, items: &[(String, Item)], until: Timestamp) -> anyhow::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let reserve = "with item as (
                select * from unnest($1::text[], $2::text[], $3::bigint[]) as item (order_id, sku, quantity)),
            reserved as (
                insert into reservation (order_id, sku, quantity, expires_at)
                select item.*, timestamptz 'epoch' + $4::bigint * interval '1 microsecond' from item)
            update stock s set on_hand = s.on_hand - total.quantity
            from (select sku, sum(quantity)::bigint as quantity from item group by sku) as total
            where s.sku = total.sku";
        let reserve = sqlx::query(reserve)
            .bind(items.iter().map(|(order_id, _)| order_id.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|(_, item)| item.sku.as_str()).collect::<Vec<_>>())
            .bind(items.iter().map(|(_, item)| i64::from(item.quantity)).collect::<Vec<_>>())
            .bind(until.as_micros());
        reserve.execute(self).await?;
        Ok(())
    }

    async fn release(&mut self, order_id: &str) -> anyhow::Result<()> {
        let release = "with released as (
                update reservation set state = 'released'
                where order_id = $1 and state = 'reserved' returning sku, quantity)
            update stock s set on_hand = s.on_hand + r.quantity
            from released r where s.sku = r.sku";
        sqlx::query(release).bind(order_id).execute(self).await?;
        Ok(())
    }

    async fn expire(&mut self, now: Timestamp, limit: usize) -> anyhow::Result<usize> {
        let expire = "with due as (
                select order_id, sku from reservation
                where state = 'reserved'
                    and expires_at <= timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
                order by expires_at limit $2 for update skip locked)
            update reservation r set state = 'expired'
            from due where r.order_id = due.order_id and r.sku = due.sku
            returning r.sku, r.quantity";
        let expire = sqlx::query(expire).bind(now.as_micros()).bind(i64::try_from(limit)?);
        let rows = expire.fetch_all(&mut *self).await?;
        let mut back = BTreeMap::<String, i64>::new();
        for row in &rows {
            *back.entry(row.try_get(0)?).or_default() += row.try_get::<i64, _>(1)?;
        }
        // Locks them in the order in which everybody does.
        self.on_hand(&back.keys().cloned().collect()).await?;
        let put_back = "update stock s set on_hand = s.on_hand + back.quantity
            from unnest($1::text[], $2::bigint[]) as back (sku, quantity) where s.sku = back.sku";
        let (articles, quantities): (Vec<_>, Vec<_>) = back.into_iter().unzip();
        sqlx::query(put_back).bind(articles).bind(quantities).execute(self).await?;
        Ok(rows.len())
    }

    async fn set_aside(&mut self, order_ids: &[String]) -> anyhow::Result<Vec<Reservation>> {
        let select = "select order_id, sku, quantity, state,
                (extract(epoch from expires_at) * 1000000)::bigint
            from reservation where order_id = any($1) order by order_id, sku for update";
        let rows = sqlx::query(select).bind(order_ids).fetch_all(self).await?;
        rows.iter().map(reservation).collect()
    }

    async fn sell(&mut self, order_ids: &[String]) -> anyhow::Result<()> {
        // What a statement reads is how things were before it: so `goods` tells what had expired.
        let update = "with goods as (
                select order_id, sku, quantity, case state when 'expired' then quantity else 0 end as again
                from reservation where order_id = any($1) and state in ('reserved', 'expired')),
            sold as (
                update reservation r set state = 'sold'
                from goods where r.order_id = goods.order_id and r.sku = goods.sku)
            update stock s set sold = s.sold + total.quantity, on_hand = s.on_hand - total.again
            from (select sku, sum(quantity)::bigint as quantity, sum(again)::bigint as again
                from goods group by sku) as total
            where s.sku = total.sku";
        sqlx::query(update).bind(order_ids).execute(self).await?;
        Ok(())
    }
}

impl StockQueries for PgConnection {
    async fn articles(
        &mut self,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<Article>> {
        let select = "select sku, on_hand, sold from stock
            where $1::text is null or sku > $1 order by sku limit $2";
        let select = sqlx::query(select).bind(after).bind(i64::try_from(limit)?);
        select.fetch_all(self).await?.iter().map(article).collect()
    }

    async fn article(&mut self, sku: &str) -> anyhow::Result<Option<Article>> {
        let select = "select sku, on_hand, sold from stock where sku = $1";
        let row = sqlx::query(select).bind(sku).fetch_optional(self).await?;
        row.as_ref().map(article).transpose()
    }

    async fn reservations(
        &mut self,
        state: Option<ReservationState>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> anyhow::Result<Vec<Reservation>> {
        let select = "select order_id, sku, quantity, state,
                (extract(epoch from expires_at) * 1000000)::bigint
            from reservation
            where ($1::text is null or state = $1)
                and ($2::text is null or (order_id, sku) > ($2, $3::text))
            order by order_id, sku limit $4";
        let select = sqlx::query(select)
            .bind(state.map(ReservationState::as_str))
            .bind(after.map(|(order_id, _)| order_id))
            .bind(after.map(|(_, sku)| sku))
            .bind(i64::try_from(limit)?);
        select.fetch_all(self).await?.iter().map(reservation).collect()
    }

    async fn reservations_of(&mut self, order_id: &str) -> anyhow::Result<Vec<Reservation>> {
        let select = "select order_id, sku, quantity, state,
                (extract(epoch from expires_at) * 1000000)::bigint
            from reservation where order_id = $1 order by sku";
        let rows = sqlx::query(select).bind(order_id).fetch_all(self).await?;
        rows.iter().map(reservation).collect()
    }
}

fn article(row: &PgRow) -> anyhow::Result<Article> {
    Ok(Article { sku: row.try_get(0)?, on_hand: pieces(row, 1)?, sold: pieces(row, 2)? })
}

fn reservation(row: &PgRow) -> anyhow::Result<Reservation> {
    Ok(Reservation {
        order_id: row.try_get(0)?,
        sku: row.try_get(1)?,
        quantity: pieces(row, 2)?,
        state: ReservationState::parse(row.try_get(3)?)?,
        expires_at: Timestamp::from_micros(row.try_get(4)?),
    })
}

fn pieces(row: &PgRow, column: usize) -> anyhow::Result<u32> {
    let pieces: i64 = row.try_get(column)?;
    Ok(u32::try_from(pieces)?)
}
