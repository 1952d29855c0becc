//! Several processes, each an engine and a participant, on a real broker and a real database: they share the work,
//! stop, stand still and wake, and one bad message or saga is in the midst of it.

#[path = "../broker/mod.rs"]
mod broker;
#[path = "../../../saga-postgres/tests/support/mod.rs"]
mod database;
mod life;
#[path = "../private/mod.rs"]
mod private;
mod shop;
mod world;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use saga_core::machine::HistoryKind;
use saga_core::store::LetterFilter;
use saga_core::{Fact as _, LetterTask, Status};
use saga_testkit::Fixture as _;

use life::{Process, Told};
use shop::{ATTEMPTS, OrderPlaced, STOCK};
use world::{World, placed, until};

/// One test at a time: some of them measure.
static ALONE: Mutex<()> = Mutex::new(());

/// As many as a topic gets unless it is told otherwise.
const PARTITIONS: u32 = 8;

#[test]
#[ignore = "the other tests start it, in a process of its own"]
fn a_process() {
    if let Some(told) = Told::here() {
        run(life::live(&told));
    }
}

fn alone(test: impl Future<Output = ()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(test);
}

fn run(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all();
    runtime.build().expect("a runtime").block_on(work);
}

fn orders(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}

/// F12, I10: attempts are counted in the saga, whichever process makes them, and also if that one leaves.
#[test]
fn one_three_and_twelve_processes_make_as_many_attempts_as_the_policy_says() {
    alone(async {
        tokio::join!(attempts(1), attempts(3), attempts(12));
    });
}

async fn attempts(count: usize) {
    const ORDERS: usize = 30;
    let world = World::new(PARTITIONS).await;
    let mut processes = world.start(count).await;
    let began = Instant::now();
    world.place(&orders("o", ORDERS), "Reserve").await;
    if count > 1 {
        let who = "select min(process) from {schema}.call where key like $1";
        let who = async || world.read::<Option<i64>>(who, "%").await;
        until("one has tried", async || who().await.is_some()).await;
        let who = who().await.expect("one has");
        let at = processes.iter().position(|it| it.id() == who).expect("it is one of them");
        processes.swap_remove(at).stop().await;
    }
    world.have_ended(ORDERS, Status::Compensated).await;
    let took = began.elapsed();

    let tried = "select key, array_agg(distinct attempt order by attempt), count(*), \
                 count(distinct process) from {schema}.call group by key";
    let tried: Vec<(String, Vec<i64>, i64, i64)> = sqlx::query_as(world.effects.sql(tried))
        .fetch_all(&world.effects.pool)
        .await
        .expect("read");
    let all: Vec<_> = (1..=i64::from(ATTEMPTS)).collect();
    let reserved = tried.iter().filter(|(key, ..)| key.ends_with(" Reserve"));
    for (key, attempts, ..) in reserved.clone() {
        assert_eq!(*attempts, all, "{count} processes, {key}");
    }
    assert_eq!(reserved.clone().count(), ORDERS);
    let histories = world.histories(Status::Compensated).await;
    for history in histories.values() {
        let failed = history.iter().filter(|it| it.kind == HistoryKind::AttemptFailed);
        let failed: Vec<_> = failed.map(|it| i64::from(it.attempt)).collect();
        assert_eq!(failed, all, "{count} processes: {history:#?}");
    }
    let effects = "select count(*) from {schema}.effect where key like $1";
    assert_eq!(world.count(effects, "% Reserve").await, 0, "what failed has no effect");
    let calls: i64 = reserved.clone().map(|(_, _, calls, _)| calls).sum();
    let shared = reserved.filter(|(.., processes)| *processes > 1).count();
    assert!(count == 1 || shared > 0, "the sagas of who left were tried elsewhere");
    println!(
        "{count} processes: {ATTEMPTS} attempts of each of {ORDERS} sagas in {took:?}, {calls} calls; \
         {shared} sagas were tried by several"
    );
    Process::stop_all(processes).await;
}

/// F13, I1, I2, I4, I10: it stands still in the midst of a transaction, and for longer than its group waits.
#[test]
fn a_process_that_stands_still_and_wakes_doubles_nothing() {
    const CROWD: usize = 300;
    alone(async {
        let world = World::new(PARTITIONS).await;
        let mut processes = world.start(2).await;
        let (first, second) = (processes.swap_remove(0), processes.swap_remove(0));
        // They are asked again and again, so that its timers are those of the past when it wakes.
        let busy = orders("busy", 20);
        world.place(&busy, "Ship").await;
        let asked =
            "select count(distinct key) from {schema}.call where attempt = 2 and key like $1";
        let asked = async || world.count(asked, "busy-% Ship").await;
        until("all are asked again", async || asked().await >= busy.len()).await;
        let mut placed = Vec::new();
        let calls = "select count(*) from {schema}.call where process = $1";
        loop {
            // Its engine has received more than it has decided about, and a transaction of its participant is open.
            let crowd = orders(&format!("crowd-{}", placed.len()), CROWD);
            let before = world.count(calls, first.id()).await;
            world.place(&crowd, "").await;
            placed.extend(crowd);
            let is_at_it = async || world.count(calls, first.id()).await > before + CROWD / 4;
            until("it is at it", is_at_it).await;
            first.signal("STOP");
            // What was under way to the database has arrived after a moment.
            let open = "select count(*) from {schema}.call, pg_sleep(0.1) where process = $1 \
                        and not exists (select from {schema}.effect where effect.key = call.key)";
            if world.count(open, first.id()).await > 0 {
                break;
            }
            first.signal("CONT");
            assert!(placed.len() < 20 * CROWD, "it is never in the midst of a transaction");
        }
        let stopped = Instant::now();
        let is_missed = async || world.members().await == [1; 2];
        world.place_until(&mut placed, "it is missed", is_missed).await;
        let missed = stopped.elapsed();
        for order in &busy {
            world.mend(order).await;
        }
        let before: HashSet<_> = placed.iter().chain(&busy).cloned().collect();
        let are_done = async || {
            let done = world.list(Status::Completed).await.into_iter().filter_map(|it| it.key);
            done.filter(|it| before.contains(it.as_str())).count() == before.len()
        };
        world.place_until(&mut placed, "the other one does its work", are_done).await;
        let replaced = stopped.elapsed();

        let calls_before = world.count(calls, first.id()).await;
        first.signal("CONT");
        let woken = Instant::now();
        let works_again = async || world.count(calls, first.id()).await > calls_before + 10;
        world.place_until(&mut placed, "it works again", works_again).await;
        let back = woken.elapsed();
        let others = world.count(calls, second.id()).await;
        let works_too = async || world.count(calls, second.id()).await > others;
        world.place_until(&mut placed, "the other one works, too", works_too).await;
        world.have_ended(placed.len() + busy.len(), Status::Completed).await;
        world.used_up_no_attempt(&placed).await;
        world.audit(&[placed, busy].concat()).await;
        let both = "select count(distinct key) from {schema}.call one join {schema}.call other \
                    using (key) where one.process = $1 and other.process <> $1";
        let both = world.count(both, first.id()).await;
        assert!(both > 0, "what it had in hand was carried out by the other");
        println!("{both} commands begun by both");
        println!(
            "missed after {missed:?}, replaced after {replaced:?}, back {back:?} after it woke"
        );
        Process::stop_all(vec![first, second]).await;
    });
}

/// F04, I12: each time is noted before the handler is called, and outlives the process. That it was given up does, too: as
/// it was not acknowledged yet, a member that joins may get it again.
#[test]
fn a_command_that_kills_whoever_carries_it_out_is_given_up_and_the_others_go_on() {
    const ORDERS: usize = 50;
    alone(async {
        let world = World::new(PARTITIONS).await;
        let mut processes = world.start(2).await;
        world.place(&orders("killer", 1), shop::KILLS).await;
        let others = orders("o", ORDERS);
        world.place(&others, "").await;
        let (mut deaths, began) = (0, Instant::now());
        let is_over = async || {
            let completed = world.list(Status::Completed).await.len();
            (world.list(Status::Parked).await.len(), completed) == (1, ORDERS)
        };
        while !is_over().await {
            assert!(began.elapsed() < 2 * world::PATIENCE, "not over after {deaths} deaths");
            deaths += world.revive(&mut processes);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let calls = "select count(*) from {schema}.call where key = $1";
        let calls = world.count(calls, "killer-0 Reserve").await;
        println!("{deaths} deaths in {:?}", began.elapsed());
        assert_eq!(calls, 3, "after so many deaths it is given up");
        world.used_up_no_attempt(&others).await;
        world.audit(&others).await;
        Process::stop_all(processes).await;
    });
}

/// F06, I4, I15: what it has in hand is done, the rest is left to the other, and none of it is begun by both.
#[test]
fn a_process_that_is_told_to_stop_ends_in_seconds_and_repeats_nothing() {
    const ORDERS: usize = 200;
    alone(async {
        let world = World::new(PARTITIONS).await;
        let mut processes = world.start(2).await;
        let mut placed = Vec::new();
        for round in ["first", "second"] {
            let now = orders(round, ORDERS);
            world.place(&now, shop::SLOW).await;
            let stops = processes.remove(0);
            let calls = "select count(*) from {schema}.call where process = $1";
            let before = world.count(calls, stops.id()).await;
            until("it works", async || world.count(calls, stops.id()).await > before + 20).await;
            let process = stops.id();
            let took = stops.stop().await;
            let done = world.list(Status::Completed).await.len() - placed.len();
            println!("ended in {took:?}, with {done} of {ORDERS} sagas completed");
            placed.extend(now);
            world.have_ended(placed.len(), Status::Completed).await;
            let twice = "select count(*) from (select key from {schema}.call where process = $1 \
                         intersect select key from {schema}.call where process <> $1) as it";
            assert_eq!(world.count(twice, process).await, 0, "what it began, it has done");
            processes.push(world.start_beside(1).await);
        }
        world.audit(&placed).await;
        world.used_up_no_attempt(&placed).await;
        Process::stop_all(processes).await;
    });
}

/// F30, F77, I11, I12: broken bytes among commands and facts, and a saga that fails for ever, all in one partition.
#[test]
fn what_is_broken_holds_up_its_own_key_and_no_other_of_its_partition() {
    const ORDERS: usize = 100;
    alone(async {
        let world = World::new(1).await;
        let processes = world.start(2).await;
        world.place(&orders("warm", 5), "").await;
        world.have_ended(5, Status::Completed).await;

        world.publish_broken(STOCK.commands(), "ada").await;
        world.place(&orders("poison", 1), "Ship").await;
        world.publish_broken(OrderPlaced::SOURCE.events(), "ada").await;
        world.publish(vec![placed("ada", "a-1", ""), placed("ada", "a-2", "")]).await;
        for order in orders("o", ORDERS) {
            world.place(&[order], "").await;
        }
        world.have_ended(5 + ORDERS, Status::Completed).await;
        let delay = |command: &'static str| {
            let delay = "select max(extract(epoch from effect.at - placed.at))::float8 \
                         from {schema}.effect join {schema}.placed \
                         on starts_with(\"order\", 'o-') and key = \"order\" || ' ' || $1";
            world.read::<f64>(delay, command)
        };
        let (reserved, shipped) = (delay("Reserve").await, delay("Ship").await);
        println!("reserved at most {reserved:.3} s after it was placed, shipped {shipped:.3} s");
        let tries = "select count(distinct attempt) from {schema}.call where key = $1";
        assert!(world.count(tries, "poison-0 Ship").await > 1, "it fails all the time");
        assert_eq!(reasons(&world.effects).await, ["undecodable"]);
        let waiting = ["undecodable", "waits-for-its-key", "waits-for-its-key"];
        assert_eq!(reasons(&world.sagas).await, waiting);

        let discard = LetterTask::discard("ada", "nobody knows what it was");
        let broken = LetterFilter::all().reason("undecodable");
        for store in [&world.sagas.store, &world.effects.store] {
            discard.run(store, &broken).await.expect("discarded");
        }
        world.mend("poison-0").await;
        world.have_ended(5 + ORDERS + 3, Status::Completed).await;
        let in_order = "select array_agg(key order by at) from {schema}.effect \
                        where starts_with(key, 'a-') and key like $1";
        let in_order = world.read::<Vec<String>>(in_order, "% Reserve").await;
        assert_eq!(in_order, ["a-1 Reserve", "a-2 Reserve"], "what waited, in order");
        let all = [orders("warm", 5), orders("poison", 1), orders("o", ORDERS)].concat();
        world.audit(&[all, vec!["a-1".to_owned(), "a-2".to_owned()]].concat()).await;
        Process::stop_all(processes).await;
    });
}

/// Returns why letters were set aside, in the order of their messages.
async fn reasons(store: &database::Fresh) -> Vec<String> {
    let mut letters = store.dead_letters().await;
    letters.sort_by_key(|letter| letter.offset);
    letters.into_iter().map(|letter| letter.reason).collect()
}

/// I12: measured, so it is not for a machine that does something else besides.
#[test]
#[ignore = "it takes the time; `make test-long` runs it"]
fn one_saga_that_fails_for_ever_costs_a_thousand_others_little() {
    const ORDERS: usize = 1_000;
    /// Whatever else the machine does disturbs some of them.
    const PAIRS: usize = 5;
    alone(async {
        let world = World::new(PARTITIONS).await;
        let processes = world.start(2).await;
        let mut placed = Vec::new();
        let time_of = async |placed: &mut Vec<String>, name: &str, count: usize| {
            let began = Instant::now();
            let orders = orders(name, count);
            world.place(&orders, "").await;
            let shipped = "select count(*) from {schema}.effect where key like $1";
            let these = format!("{name}-% Ship");
            let shipped = async || world.count(shipped, these.clone()).await == count;
            until("all are shipped", shipped).await;
            placed.extend(orders);
            began.elapsed()
        };
        time_of(&mut placed, "warm", 200).await;
        let mut best = [Duration::MAX; 2];
        let mut costs = f64::INFINITY;
        for pair in 0..PAIRS {
            let without = time_of(&mut placed, &format!("without-{pair}"), ORDERS).await;
            let poison = format!("poison-{pair}");
            world.place(std::slice::from_ref(&poison), "Ship").await;
            let tries = "select count(*) from {schema}.call where key = $1";
            let tries = async || world.count(tries, format!("{poison} Ship")).await;
            until("it fails", async || tries().await > 0).await;
            let before = tries().await;
            let with = time_of(&mut placed, &format!("with-{pair}"), ORDERS).await;
            let failed = tries().await - before;
            world.mend(&poison).await;
            placed.push(poison);
            println!(
                "{ORDERS} sagas: {without:?}, and {with:?} beside one that failed {failed} times"
            );
            best = [best[0].min(without), best[1].min(with)];
            costs = best[1].as_secs_f64() / best[0].as_secs_f64();
            if pair > 0 && costs < 1.5 {
                break;
            }
        }
        println!("at best {:?} and {:?}: {costs:.2} times", best[0], best[1]);
        assert!(costs < 1.5, "one that fails costs the others {costs:.2} times as much");
        world.have_ended(placed.len(), Status::Completed).await;
        world.audit(&placed).await;
        Process::stop_all(processes).await;
    });
}
