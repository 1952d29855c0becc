//! Processes that die at every point, and again while they recover, on a real broker and a real database.
//!
//! `CRASH_CASE=17` plays one case alone; `CRASH_ROUNDS=10` plays all of them ten times.

mod audit;
#[path = "../broker/mod.rs"]
mod broker;
#[path = "../../../saga-postgres/tests/support/mod.rs"]
mod database;
mod defects;
mod judge;
mod late;
mod life;
mod mine;
mod mined;
mod parts;
mod paths;
mod points;
#[path = "../private/mod.rs"]
mod private;
mod shop;
mod stores;
mod told;
mod world;

use std::env;
use std::sync::{Mutex, PoisonError};

use saga_testkit::Defect;

use paths::points;
use points::{Case, Scenario, cases, others};
use told::Told;
use world::{Outcome, World};

/// Runs at a time: most of one is waiting until the broker misses the dead.
const SLOTS: usize = 20;

/// One test at a time: where something is done wrong, lives have a narrow limit.
static ALONE: Mutex<()> = Mutex::new(());

/// F01, F02, F03, F13, F36, F60, F61, F71, I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11, I13.
#[test]
fn every_point_survives_death_errors_and_doubt() {
    if let Some(told) = Told::here() {
        Defect::plant(told.defect());
        return run(life::live(&told), told.defect());
    }
    assert_eq!(points().len(), 95, "seven kinds of message, and eighteen other points");
    let rounds = env::var("CRASH_ROUNDS").map_or(1, |it| it.parse().expect("a number"));
    let only: Option<usize> = env::var("CRASH_CASE").ok().map(|it| it.parse().expect("a number"));
    let mut jobs: Vec<_> = (0..rounds).flat_map(|_| cases()).map(|case| (case, None)).collect();
    jobs.retain(|(case, _)| only.is_none_or(|only| case.number == only));
    // A letter that was handed out waits for the end of its lease, so those runs begin first.
    jobs.sort_by_key(|(case, _)| case.point.scenario != Scenario::Redriven);
    let played = play(jobs);
    let (runs, kills) = (played.len(), played.iter().map(|it| it.outcome.deaths).sum::<usize>());
    let others = others().count();
    println!("crash matrix: 95 points and {others} others, {runs} runs, {kills} kills");
    let flaws = played.iter().filter(|it| !it.outcome.flaws.is_empty());
    let flaws: Vec<_> = flaws.map(|it| told_of(&it.case, &it.outcome)).collect();
    assert!(flaws.is_empty(), "{} of {runs} runs:\n{}", flaws.len(), flaws.join("\n"));
    assert!(runs >= 366 || only.is_some(), "too few runs: {runs}");
    assert!(kills >= 335 || only.is_some(), "too few kills: {kills}");
}

fn told_of(case: &Case, outcome: &Outcome) -> String {
    let again = format!("to play it alone: CRASH_CASE={}", case.number);
    format!("{case}: {}\n  {again}", outcome.flaws.join("\n  "))
}

/// A case, and the place of the defect that is planted.
type Job = (Case, Option<usize>);

struct Played {
    case: Case,
    planted: Option<usize>,
    outcome: Outcome,
}

/// Plays jobs, many at a time.
fn play(jobs: Vec<Job>) -> Vec<Played> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let all = jobs.len();
    let queue = Mutex::new(jobs.into_iter().enumerate());
    let next = || queue.lock().expect("no thread panicked").next();
    std::thread::scope(|scope| {
        let slots = 0..SLOTS.min(all);
        let slots: Vec<_> = slots.map(|_| scope.spawn(|| run(work(&next, all), None))).collect();
        slots.into_iter().flat_map(|slot| slot.join().expect("no thread panicked")).collect()
    })
}

/// Plays one job after the other, in one world as long as nothing is wrong in it.
async fn work(next: impl Fn() -> Option<(usize, Job)>, all: usize) -> Vec<Played> {
    let (mut played, mut world) = (Vec::new(), None);
    while let Some((number, (case, planted))) = next() {
        if number.is_multiple_of(20) {
            eprintln!("crash matrix: {number} of {all} runs");
        }
        let here = match world.take() {
            Some(world) => world,
            None => World::new().await,
        };
        let outcome = here.play(&case, planted, number).await;
        if outcome.flaws.is_empty() {
            world = Some(here);
        }
        played.push(Played { case, planted, outcome });
    }
    played
}

fn run<T>(work: impl Future<Output = T>, defect: Option<Defect>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let plant = move || Defect::plant(defect);
    let runtime = builder.worker_threads(2).enable_all().on_thread_start(plant).build();
    runtime.expect("a runtime").block_on(work)
}
