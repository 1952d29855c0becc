//! The books of the four services: read from their databases, and held against the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use examples::contract::timeline::{ShownEntry, ShownSaga};
use examples::contract::{ORDERS, OrderConfirmed, OrderCreated, OrderRejected};
use prost::Message as _;
use saga_core::Message;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::broker;
use crate::laws::Broken;
use crate::orders::{Fate, Plan};
use crate::services::{SERVICES, Services};
use crate::support::database::connect;

/// Most unfinished orders that are printed when a law is broken.
const UNFINISHED_MAX: i64 = 5;

pub(crate) struct Books {
    orders: PgConnection,
    payments: PgConnection,
    inventory: PgConnection,
    orchestrator: PgConnection,
    /// What was there of each article before the first order.
    delivered: BTreeMap<String, i64>,
}

impl Books {
    /// Opens the books before the first order.
    pub(crate) async fn open(services: &Services) -> Self {
        let mut books = Self {
            orders: connect(services.database("orders")).await,
            payments: connect(services.database("payments")).await,
            inventory: connect(services.database("inventory")).await,
            orchestrator: connect(services.database("orchestrator")).await,
            delivered: BTreeMap::new(),
        };
        books.delivered = by_name(&mut books.inventory, "select sku, on_hand from stock").await;
        books
    }

    /// Counts the orders that are pending, the sagas that have not ended and the confirmed orders that no summary has.
    pub(crate) async fn unfinished(&mut self) -> i64 {
        let orders = "select count(*) from orders where status = 'pending'";
        let orders = number(&mut self.orders, orders).await;
        let sagas = "select count(*) from saga.saga where status not in (2, 3)";
        let confirmed = "select count(*) from orders where status = 'confirmed'";
        let confirmed = number(&mut self.orders, confirmed).await;
        let summed = "select coalesce(sum(orders), 0)::bigint from summary";
        let behind = confirmed - number(&mut self.payments, summed).await;
        orders + number(&mut self.orchestrator, sagas).await + behind.abs()
    }

    /// Returns how far the run is, in words.
    pub(crate) async fn progress(&mut self, accepted: &AtomicUsize) -> String {
        let by_status = "select status, count(*) from orders group by status";
        let by_status = by_name(&mut self.orders, by_status).await;
        let count = |status: &str| by_status.get(status).copied().unwrap_or_default();
        let accepted = accepted.load(Ordering::Relaxed);
        let (confirmed, rejected) = (count("confirmed"), count("rejected"));
        format!("{accepted} accepted, {confirmed} confirmed, {rejected} rejected")
    }

    /// Checks every law of the books; returns those that are broken.
    pub(crate) async fn audit(&mut self, plan: &Plan) -> Vec<String> {
        let mut broken = Broken::default();
        audit_facts(plan, &mut broken);
        self.audit_orders(plan, &mut broken).await;
        self.audit_money(plan, &mut broken).await;
        self.audit_stock(plan, &mut broken).await;
        self.audit_sagas(plan, &mut broken).await;
        self.audit_messages(plan, &mut broken).await;
        broken.0
    }

    async fn audit_orders(&mut self, plan: &Plan, broken: &mut Broken) {
        let select = "select order_id, status, reason, amount_minor from orders";
        let rows = sqlx::query(select).fetch_all(&mut self.orders).await.expect(select);
        broken.unless("every accepted order is there", rows.len(), plan.0.len());
        let rows: BTreeMap<String, _> = rows.iter().map(|row| (row.get(0), row)).collect();
        let wrong = plan.0.iter().filter_map(|order| {
            let found = rows.get(&order.id).map(|row| (row.get(1), row.get(2), row.get(3)));
            let expected = (order.fate.status(), order.fate.reason(), order.amount.minor);
            (found != Some(expected))
                .then(|| format!("{} is {found:?}, not {expected:?}", order.id))
        });
        broken.unless("orders that ended as they must not", wrong.collect(), Vec::new());
    }

    async fn audit_money(&mut self, plan: &Plan, broken: &mut Broken) {
        let db = &mut self.payments;
        let mut law = async |what: &str, sql: &str, expected: i64| {
            broken.unless(what, number(db, sql).await, expected);
        };
        let captured = "select coalesce(sum(amount_minor), 0)::bigint from payment \
            where state = 'captured'";
        law("captured is the total of the confirmed orders", captured, plan.revenue()).await;
        let shop =
            "select coalesce(sum(amount_minor), 0)::bigint from entry where account = 'shop'";
        law("the shop has what was captured", shop, plan.revenue()).await;
        let held =
            "select coalesce(sum(amount_minor), 0)::bigint from entry where account = 'held'";
        law("nothing is held any more", held, 0).await;
        let ledger = "select sum(amount_minor)::bigint from entry";
        law("the ledger sums to zero", ledger, 0).await;
        let balances = "select count(*) from account a where balance_minor <> \
            (select coalesce(sum(amount_minor), 0) from entry e where e.account = a.id)";
        law("each balance is the sum of its entries", balances, 0).await;
        let open = "select count(*) from payment where state = 'authorized'";
        law("no payment is open", open, 0).await;

        let summaries = "select count(*) from (select account, count(*), sum(amount_minor) \
            from payment where state = 'captured' group by account \
            except select account, orders, spent_minor from summary) as it";
        law("each summary has every confirmed order once", summaries, 0).await;

        let movements = "select reference || ' ' || reason, count(*) from entry \
            where reason <> 'deposit' group by 1";
        let found = by_name(db, movements).await;
        let expected = plan.0.iter().flat_map(|order| {
            order.fate.movements().iter().map(|reason| (format!("{} {reason}", order.id), 2))
        });
        broken.unless("money moved once for each command", found, expected.collect());
    }

    async fn audit_stock(&mut self, plan: &Plan, broken: &mut Broken) {
        let db = &mut self.inventory;
        let total = by_name(db, "select sku, on_hand + sold from stock").await;
        broken.unless("on hand + sold = delivered", total, self.delivered.clone());
        let sold = by_name(db, "select sku, sold from stock where sold > 0").await;
        broken.unless("sold is what was confirmed", sold, plan.sold());
        let reserved = "select count(*) from reservation where state = 'reserved'";
        broken.unless("no reservation is left", number(db, reserved).await, 0);
    }

    async fn audit_sagas(&mut self, plan: &Plan, broken: &mut Broken) {
        let db = &mut self.orchestrator;
        // 0 running, 1 compensating, 2 completed, 3 compensated, 4 parked.
        let found = by_name(db, "select status::text, count(*) from saga.saga group by 1").await;
        let confirmed = plan.count(&[Fate::Confirmed]);
        let rejected = plan.count(&[Fate::Declined, Fate::OutOfStock, Fate::Frozen]);
        let expected = [("2".to_owned(), confirmed), ("3".to_owned(), rejected)];
        broken.unless("each order has one saga, and it has ended", found, expected.into());
    }

    /// Each command and fact was handled once, and nothing is left to send or set aside.
    async fn audit_messages(&mut self, plan: &Plan, broken: &mut Broken) {
        use Fate::{Confirmed, Declined, Frozen, OutOfStock};

        let all = plan.count(&[Confirmed, Declined, OutOfStock, Frozen]);
        let reserved = plan.count(&[Confirmed, Declined, Frozen]);
        let authorized = plan.count(&[Confirmed, Frozen]);
        let commands = [
            // Confirm or reject.
            all,
            // Authorize; capture; void; and a fact for the summary.
            reserved + authorized + plan.count(&[Frozen]) + plan.count(&[Confirmed]),
            // Reserve; sell or release.
            all + reserved,
            0,
        ];
        let connections =
            [&mut self.orders, &mut self.payments, &mut self.inventory, &mut self.orchestrator];
        for ((service, db), commands) in SERVICES.into_iter().zip(connections).zip(commands) {
            let handled = number(db, "select count(*) from saga.inbox").await;
            broken.unless(&format!("{service} handled each message once"), handled, commands);
            let set_aside = number(db, "select count(*) from saga.dead_letter").await;
            broken.unless(&format!("{service} set nothing aside"), set_aside, 0);
        }
    }

    /// Prints some orders that have not ended, with what happened to their sagas.
    pub(crate) async fn print_unfinished(&mut self, services: &Services) {
        let pending = "select order_id from orders where status = 'pending' limit $1";
        let pending = sqlx::query_scalar(pending).bind(UNFINISHED_MAX);
        let mut ids: Vec<String> = pending.fetch_all(&mut self.orders).await.expect("pending");
        let running = "select key from saga.saga where status not in (2, 3) limit $1";
        let running = sqlx::query_scalar(running).bind(UNFINISHED_MAX);
        let running: Vec<String> = running.fetch_all(&mut self.orchestrator).await.expect("sagas");
        ids.extend(running);
        ids.sort();
        ids.dedup();
        for id in ids {
            match services.orders().get(&format!("/orders/{id}")).await {
                Ok((_, order)) => print_order(&order),
                Err(error) => println!("{id}: {error}"),
            }
        }
    }
}

/// What others are told is what is in the database: that an order was placed, and how it ended.
fn audit_facts(plan: &Plan, broken: &mut Broken) {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in broker::messages(&ORDERS.events()) {
        // Whatever is told of an order begins with its id.
        let told_of = OrderConfirmed::decode(message.payload.0).expect("an id");
        told.entry(told_of.order_id).or_default().insert(message.message_type.to_string());
    }
    let expected = plan.0.iter().map(|order| {
        let end = match order.fate {
            Fate::Confirmed => <OrderConfirmed as Message>::TYPE,
            Fate::Declined | Fate::OutOfStock | Fate::Frozen => <OrderRejected as Message>::TYPE,
        };
        (order.id.clone(), [<OrderCreated as Message>::TYPE, end].map(|it| it.to_string()).into())
    });
    broken.unless("each order was told of as it ended", told, expected.collect());
}

fn print_order(order: &Value) {
    println!("\n--- {} is {}", order["order_id"], order["status"]);
    let Ok(saga) = serde_json::from_value::<ShownSaga>(order["saga"].clone()) else {
        return println!("its saga is not shown");
    };
    println!("saga {} is {}", saga.id, saga.status);
    for ShownEntry { at, step, event, attempt, detail } in saga.timeline {
        let step = step.unwrap_or_default();
        println!("{at} {step:<18} {event} (attempt {attempt}) {detail}");
    }
}

async fn number(db: &mut PgConnection, sql: &str) -> i64 {
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    query.fetch_one(db).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn by_name(db: &mut PgConnection, sql: &str) -> BTreeMap<String, i64> {
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    let rows = query.fetch_all(db).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
