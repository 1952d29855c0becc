//! The long run: the four services as processes of their own on real backends, a thousand orders,
//! and every process killed again and again. Afterwards the books must be right to the cent.
//!
//! `make e2e` runs it; `E2E_SEED` repeats the choices of an earlier run.

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
#[path = "e2e/orders.rs"]
mod orders;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/services.rs"]
mod services;
#[path = "e2e/traces.rs"]
mod traces;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use books::Books;
use customers::Customers;
use dice::Dice;
use orders::Plan;
use services::{SERVICES, Services};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const ORDERS: usize = 1000;
/// Each service is killed once a round, at a random moment of it.
const ROUNDS: u32 = 6;
/// Long enough for a killed member of a group to be missed (6 s), and for work after that.
const ROUND: Duration = Duration::from_secs(9);
/// How long after the last kill the last order may end.
const SETTLE: Duration = Duration::from_mins(1);

/// The services have one set of topics on a broker.
static ALONE: Mutex<()> = Mutex::const_new(());

/// F01, I1, I3, I4, I8.
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
    println!("e2e: the services are ready; {ORDERS} orders, {ROUNDS} rounds of kills");

    let started = Instant::now();
    let accepted = Arc::new(AtomicUsize::new(0));
    let pace = ROUND * ROUNDS;
    let customers = Customers { plan: Arc::clone(&plan), accepted: Arc::clone(&accepted), pace };
    let customers = tokio::spawn(customers.order(services.orders(), dice.fork()));

    let last_kill = kill_all_again_and_again(&mut services, &mut dice, &accepted, &mut books).await;
    println!("e2e: {} kills; now everything must end", ROUNDS as usize * SERVICES.len());
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
    println!("e2e: {:.1} s after the last kill", last_kill.elapsed().as_secs_f64());

    let mut violations = books.audit(&plan).await;
    if !is_settled {
        violations.insert(0, format!("not everything had ended {SETTLE:?} after the last kill"));
    }
    if !violations.is_empty() {
        books.print_unfinished(&services).await;
        services.print_logs();
        panic!("with seed {}:\n  {}", dice.seed(), violations.join("\n  "));
    }
    services.stop().await;
    println!("e2e: every law holds, after {:.0} s", started.elapsed().as_secs_f64());
}

/// Kills every service once a round and starts it again at once; returns when the last kill was.
async fn kill_all_again_and_again(
    services: &mut Services,
    dice: &mut Dice,
    accepted: &AtomicUsize,
    books: &mut Books,
) -> Instant {
    let started = Instant::now();
    for round in 0..ROUNDS {
        let mut kills: Vec<_> =
            SERVICES.iter().map(|&name| (dice.duration_below(ROUND), name)).collect();
        kills.sort();
        for (moment, name) in kills {
            sleep_until(started + ROUND * round + moment).await;
            services.kill_and_restart(name);
            println!(
                "e2e: {:>3} s: {name} killed (round {}); {}",
                started.elapsed().as_secs(),
                round + 1,
                books.progress(accepted).await
            );
        }
    }
    Instant::now()
}
