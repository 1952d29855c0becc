//! The long run: the four services as processes of their own on real backends, a thousand orders,
//! and every process killed again and again. Afterwards the books must be right to the cent.
//!
//! `make e2e` runs it; `E2E_SEED` repeats the choices of an earlier run, `E2E_ROUNDS=60` kills ten times as often.
//! `make e2e RUNNING=1` takes services that somebody else has started, and leaves trouble to them.

mod support;

#[path = "e2e/books.rs"]
mod books;
#[path = "e2e/broker.rs"]
mod broker;
#[path = "e2e/collector.rs"]
mod collector;
#[path = "e2e/customers.rs"]
mod customers;
#[path = "e2e/dice.rs"]
mod dice;
#[path = "e2e/laws.rs"]
mod laws;
#[path = "e2e/orders.rs"]
mod orders;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/services.rs"]
mod services;
#[path = "e2e/shown.rs"]
mod shown;
#[path = "e2e/traces.rs"]
mod traces;
#[path = "e2e/trouble.rs"]
mod trouble;

use std::env;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use books::Books;
use customers::Customers;
use dice::Dice;
use orders::Plan;
use services::Services;
use shown::{Shop, Shown};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use trouble::{ROUND, make_trouble, schedule};

const ORDERS: usize = 1000;
const ROUNDS: u32 = 6;
/// How long the orders are spread over if others make the trouble.
const PACE: Duration = Duration::from_secs(30);
/// How long after the last trouble the last order may end.
const SETTLE: Duration = Duration::from_mins(1);

/// The services have one set of topics on a broker.
static ALONE: Mutex<()> = Mutex::const_new(());

/// F01, F06, I1, I3, I4, I8, B1, B2, B3, B4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_whatever_is_killed() {
    let _alone = ALONE.lock().await;
    let mut dice = Dice::from_environment("E2E_SEED");
    println!("e2e: seed {} (E2E_SEED={} repeats its choices)", dice.seed(), dice.seed());
    let plan = Arc::new(Plan::new(ORDERS, &mut dice));

    services::build();
    broker::clean().await;
    let mut services = Services::start(&mut dice, &[]).await;
    let mut books = Books::open(&services).await;
    let shown = Shown::open(services.shop()).await;
    let rounds = env::var("E2E_ROUNDS").map_or(ROUNDS, |it| it.parse().expect("a number"));
    println!(
        "e2e: the services are ready; {ORDERS} orders, {rounds} rounds of kills, then pauses and restarts"
    );
    let schedule = schedule(rounds, &mut dice);

    let started = Instant::now();
    let accepted = Arc::new(AtomicUsize::new(0));
    let pace = schedule.last().map_or(ROUND, |(at, ..)| *at);
    let customers = Customers { plan: Arc::clone(&plan), accepted: Arc::clone(&accepted), pace };
    let customers = tokio::spawn(customers.order(services.orders(), dice.fork()));

    let last = make_trouble(&schedule, &mut services, &accepted, &mut books).await;
    println!("e2e: {} troubles; now everything must end", schedule.len());
    let settled = timeout(SETTLE, async {
        customers.await.expect("every order was accepted");
        while books.unfinished().await > 0 {
            println!(
                "e2e: {:>3} s: {}",
                started.elapsed().as_secs(),
                books.progress(&accepted).await
            );
            sleep(Duration::from_secs(1)).await;
        }
    });
    let is_settled = settled.await.is_ok();
    println!("e2e: {}", books.progress(&accepted).await);
    println!("e2e: {:.1} s after the last trouble", last.elapsed().as_secs_f64());

    let mut violations = books.audit(&plan).await;
    violations.extend(shown.audit(&plan).await);
    if !is_settled {
        violations.insert(0, format!("not everything had ended {SETTLE:?} after the last trouble"));
    }
    if !violations.is_empty() {
        books.print_unfinished(&services).await;
        services.print_logs();
        panic!("with seed {}:\n  {}", dice.seed(), violations.join("\n  "));
    }
    services.stop().await;
    println!("e2e: every law holds, after {:.0} s", started.elapsed().as_secs_f64());
}

/// B1, B2, B3, B4: as far as the interfaces show it, of services that anybody may kill meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs a system that runs: `make up`, then `make e2e RUNNING=1`"]
async fn a_system_that_runs_keeps_its_books() {
    let mut dice = Dice::from_environment("E2E_SEED");
    let plan = Arc::new(Plan::new(ORDERS, &mut dice));
    let shop = Shop::running();
    shop.supply(dice.seed()).await;
    let shown = Shown::open(shop.clone()).await;
    println!("e2e: {ORDERS} orders within {PACE:?}; nobody else is to order until they have ended");

    let (started, accepted) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let customers = Customers { plan: Arc::clone(&plan), accepted, pace: PACE };
    customers.order(shop.orders, dice.fork()).await;
    println!("e2e: {:>3} s: all are accepted", started.elapsed().as_secs());
    let is_settled = timeout(SETTLE, shown.settled(&plan)).await.is_ok();
    let violations = shown.audit(&plan).await;
    assert!(violations.is_empty(), "with seed {}:\n  {}", dice.seed(), violations.join("\n  "));
    assert!(is_settled, "everything had ended within {SETTLE:?}");
    println!("e2e: every law holds, after {:.0} s", started.elapsed().as_secs_f64());
}
