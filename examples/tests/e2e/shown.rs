//! The books as the interfaces show them, whoever started the services.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use chassis::http::{Client, NoAnswer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::laws::Broken;
use crate::orders::{Fate, Plan, PlannedOrder};

/// Who orders, and what is ordered.
const USERS: [&str; 4] = ["u-1", "u-2", "u-poor", "u-frozen"];
const ARTICLES: [&str; 3] = ["coffee-beans", "espresso-machine", "surprise-box"];

/// The interfaces of the services that have books.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) orders: Client,
    pub(crate) payments: Client,
    pub(crate) inventory: Client,
}

/// The books, and how they were before the first order.
pub(crate) struct Shown {
    shop: Shop,
    before: Totals,
}

/// How long a service may be down while somebody looks.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers that change with what is ordered; money in cents.
#[derive(Clone)]
struct Totals {
    balances: BTreeMap<&'static str, i64>,
    /// How many orders were confirmed, and what they cost.
    spent: BTreeMap<&'static str, (i64, i64)>,
    /// How much is on hand, and how much was sold.
    stock: BTreeMap<&'static str, (i64, i64)>,
}

impl Shop {
    /// Returns the services that `make up` or `docker compose up` starts, asked with the token in `E2E_TOKEN` if there is one.
    pub(crate) fn running() -> Self {
        let token = env::var("E2E_TOKEN").ok();
        let [orders, payments, inventory] = [8001, 8002, 8003].map(|port| {
            let client = Client::new(&format!("http://127.0.0.1:{port}")).expect("a URL");
            token.iter().fold(client, |client, token| client.token(token).expect("a token"))
        });
        Self { orders, payments, inventory }
    }

    /// Brings the money and the goods that a run needs, under ids with this in them.
    pub(crate) async fn supply(&self, run: u64) {
        for user in ["u-1", "u-2", "u-frozen"] {
            let deposit = json!({"deposit_id": format!("e2e-{run}-{user}"), "amount": "200000.00"});
            bring(&self.payments, &format!("/accounts/{user}/deposits"), &deposit).await;
        }
        for sku in ARTICLES {
            let delivery = json!({"delivery_id": format!("e2e-{run}-{sku}"), "quantity": 3_000});
            bring(&self.inventory, &format!("/stock/{sku}/deliveries"), &delivery).await;
        }
    }

    /// Returns true if the saga of an order has ended.
    async fn has_ended(&self, order: &PlannedOrder) -> bool {
        let shown = self.orders.get(&format!("/orders/{}", order.id)).await;
        let status = |shown: &Value| shown["saga"]["status"].as_str().map(ToOwned::to_owned);
        // It may be down just now.
        let status = shown.ok().and_then(|(_, shown)| status(&shown));
        matches!(status.as_deref(), Some("completed" | "compensated"))
    }
}

impl Shown {
    /// Opens the books before the first order.
    pub(crate) async fn open(shop: Shop) -> Self {
        let before = Totals::read(&shop).await;
        Self { shop, before }
    }

    /// Waits until every order has ended and every summary knows of it.
    pub(crate) async fn settled(&self, plan: &Plan) {
        let mut open: Vec<_> = plan.0.iter().collect();
        while let Some(order) = open.last() {
            if self.shop.has_ended(order).await {
                open.pop();
            } else {
                println!("e2e: {} of {} orders have not ended", open.len(), plan.0.len());
                sleep(Duration::from_secs(1)).await;
            }
        }
        while Totals::read(&self.shop).await.spent != self.expected(plan).spent {
            println!("e2e: the summaries are behind");
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Checks that all is shown as it must have ended.
    pub(crate) async fn audit(&self, plan: &Plan) -> Vec<String> {
        let mut broken = Broken::default();
        let mut wrong = Vec::new();
        for order in &plan.0 {
            let (found, expected) = (self.found(order).await, order.shown());
            if found != expected {
                wrong.push(format!("{} is {found}, not {expected}", order.id));
            }
        }
        broken.unless("orders that are shown as they must not be", wrong, Vec::new());
        let (found, expected) = (Totals::read(&self.shop).await, self.expected(plan));
        broken.unless(
            "the customers have what they did not spend",
            found.balances,
            expected.balances,
        );
        broken.unless("the summaries have what was spent", found.spent, expected.spent);
        broken.unless("what is gone from the stock is sold", found.stock, expected.stock);
        broken.0
    }

    /// Returns what is shown of an order by each service.
    async fn found(&self, order: &PlannedOrder) -> Value {
        let path = format!("/orders/{}", order.id);
        let placed = look(&self.shop.orders, &path).await;
        let path = format!("/payments/{}", order.id);
        let payment = look(&self.shop.payments, &path).await;
        let path = format!("/reservations/{}", order.id);
        let goods = look(&self.shop.inventory, &path).await;
        let goods = goods.as_array().into_iter().flatten();
        let mut goods: Vec<_> =
            goods.map(|it| json!([it["sku"], it["quantity"], it["state"]])).collect();
        goods.sort_by_key(Value::to_string);
        json!({
            "order": [placed["status"], placed["reason"], placed["saga"]["status"]],
            "payment": [payment["state"], payment["amount"]],
            "goods": goods,
        })
    }

    fn expected(&self, plan: &Plan) -> Totals {
        let Totals { mut balances, mut spent, mut stock } = self.before.clone();
        for order in plan.confirmed() {
            *balances.entry(order.user).or_default() -= order.amount.minor;
            let (orders, cents) = spent.entry(order.user).or_default();
            (*orders, *cents) = (*orders + 1, *cents + order.amount.minor);
            for &(sku, quantity) in order.goods() {
                let (on_hand, sold) = stock.entry(sku).or_default();
                (*on_hand, *sold) = (*on_hand - quantity, *sold + quantity);
            }
        }
        Totals { balances, spent, stock }
    }
}

impl Totals {
    async fn read(shop: &Shop) -> Self {
        let (mut balances, mut spent, mut stock) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for user in USERS {
            let path = format!("/accounts/{user}");
            balances.insert(user, cents(&look(&shop.payments, &path).await["balance"]));
            let summary = look(&shop.payments, &format!("{path}/summary")).await;
            spent.insert(user, (count(&summary["orders"]), cents(&summary["spent"])));
        }
        for sku in ARTICLES {
            let article = look(&shop.inventory, &format!("/stock/{sku}")).await;
            stock.insert(sku, (count(&article["on_hand"]), count(&article["sold"])));
        }
        Self { balances, spent, stock }
    }
}

impl PlannedOrder {
    /// Returns what must be shown of it in the end, as [`Shown::found`] returns it.
    fn shown(&self) -> Value {
        let amount = self.amount.as_number();
        let (saga, payment, goods) = match self.fate {
            Fate::Confirmed => ("completed", json!(["captured", amount]), Some("sold")),
            Fate::Declined => ("compensated", json!([null, null]), Some("released")),
            Fate::Frozen => ("compensated", json!(["voided", amount]), Some("released")),
            Fate::OutOfStock => ("compensated", json!([null, null]), None),
        };
        let goods =
            goods.map(|state| self.goods().iter().map(move |it| json!([it.0, it.1, state])));
        let mut goods: Vec<_> = goods.into_iter().flatten().collect();
        goods.sort_by_key(Value::to_string);
        json!({
            "order": [self.fate.status(), self.fate.reason(), saga],
            "payment": payment,
            "goods": goods,
        })
    }
}

/// Returns what a service shows, or `null` if there is nothing. It may be down for a moment, for somebody kills it.
async fn look(service: &Client, path: &str) -> Value {
    let asked = Instant::now();
    loop {
        match service.get(path).await {
            Ok((status, answer)) if status == 200 => return answer,
            Ok((status, _)) if status == 404 => return Value::Null,
            // It asks for a moment.
            Ok((status, _)) if status == 429 || status == 503 => {}
            Ok((status, answer)) => panic!("{path} was answered with {status}: {answer}"),
            Err(_) if asked.elapsed() < PATIENCE => {}
            Err(error) => nobody_there(&error),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn bring(service: &Client, path: &str, what: &Value) {
    let answer = service.post(path, what).await;
    let (status, answer) = answer.unwrap_or_else(|error| nobody_there(&error));
    assert_eq!(status, 201, "{path}: {answer}");
}

fn nobody_there(error: &NoAnswer) -> ! {
    panic!("{error}: `make up` or `docker compose up -d --wait` starts the services")
}

fn count(number: &Value) -> i64 {
    number.as_i64().unwrap_or_else(|| panic!("{number} is a whole number"))
}

/// Reads an amount, which is shown with two digits.
fn cents(amount: &Value) -> i64 {
    let digits = amount.to_string().replace('.', "");
    digits.parse().unwrap_or_else(|_| panic!("{amount} is an amount"))
}
