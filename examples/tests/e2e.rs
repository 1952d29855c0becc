//! The long run: the four services as processes of their own on real backends, a thousand orders,
//! and every process killed again and again. Afterwards the books must be right to the cent.
//!
//! `make e2e` runs it; `E2E_SEED` repeats the choices of an earlier run, `E2E_ROUNDS=60` kills ten times as often.

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

use std::env;
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
/// How long a service stands still: long enough to be missed as well.
const PAUSE: Duration = Duration::from_secs(8);
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

    let mut violations = books.audit(&plan, &services.orders()).await;
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

/// Something that happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// It is killed, and started again at once.
    Killed,
    /// It stands still, and the others go on.
    Paused,
    /// It goes on, and does not know that it stood still.
    Resumed,
    /// It is asked to stop, and started again.
    Restarted,
}

/// Returns what happens when, to which service: each is killed once a round, then each stands still, then each is
/// restarted as for an upgrade.
fn schedule(rounds: u32, dice: &mut Dice) -> Vec<(Duration, &'static str, Trouble)> {
    let mut all = Vec::new();
    let mut begin = Duration::ZERO;
    let mut in_round =
        |begin: Duration| SERVICES.map(|it| (begin + dice.duration_below(ROUND), it));
    for _ in 0..rounds {
        all.extend(in_round(begin).map(|(at, name)| (at, name, Trouble::Killed)));
        begin += ROUND;
    }
    for (at, name) in in_round(begin) {
        all.extend([(at, name, Trouble::Paused), (at + PAUSE, name, Trouble::Resumed)]);
    }
    begin += ROUND + PAUSE;
    all.extend(in_round(begin).map(|(at, name)| (at, name, Trouble::Restarted)));
    all.sort();
    all
}

/// Makes all of it happen; returns when the last of it did.
async fn make_trouble(
    schedule: &[(Duration, &str, Trouble)],
    services: &mut Services,
    accepted: &AtomicUsize,
    books: &mut Books,
) -> Instant {
    let started = Instant::now();
    for &(at, name, trouble) in schedule {
        sleep_until(started + at).await;
        match trouble {
            Trouble::Killed => services.kill_and_restart(name),
            Trouble::Paused => services.pause(name),
            Trouble::Resumed => services.resume(name),
            Trouble::Restarted => services.stop_and_restart(name).await,
        }
        let (seconds, progress) = (started.elapsed().as_secs(), books.progress(accepted).await);
        println!("e2e: {seconds:>3} s: {name} {trouble:?}; {progress}");
    }
    Instant::now()
}
