//! A flaw is told so that a person understands it and can see it again.

use std::env;
use std::process::Command;

use saga_core::{MemoryConnection, MemoryStore, Participant, Saga, Status};
use saga_testkit::{SimulatedClock, Subject, simulate};

use crate::shop::{Accounts, Order, Shop};

/// Set in the process that finds the flaw.
const FINDS: &str = "PROOF_FINDS_A_FLAW";
const FLAW: &str = "no order may be undone";
const AGAIN: &str = "\n\nto play this alone: SAGA_SEED=";

/// A shop that takes for a flaw what is none.
struct Stubborn;

impl Subject for Stubborn {
    type Data = Order;
    type Store = MemoryStore<Accounts>;

    fn saga(&self) -> Saga<Order> {
        Shop.saga()
    }

    fn data(&self) -> Order {
        Shop.data()
    }

    fn store(&self, clock: &SimulatedClock) -> MemoryStore<Accounts> {
        Shop.store(clock)
    }

    fn participants(&self) -> Vec<Participant<MemoryConnection<Accounts>>> {
        Shop.participants()
    }

    fn check(&self, _: &MemoryStore<Accounts>, status: Status) -> Result<(), String> {
        if status == Status::Compensated { Err(FLAW.to_owned()) } else { Ok(()) }
    }
}

#[test]
fn a_flaw_is_told_with_as_little_as_shows_it_and_plays_again_from_its_seed() {
    if env::var_os(FINDS).is_some() {
        simulate(&Stubborn, 0..1_000);
        return;
    }
    let (told, seed) = found(None);
    let (_, plan) = told.split_once("when ").expect("what went wrong");
    let (plan, story) = plan.split_once(":\n").expect("all that happened");
    for more in ["noise", "crash", "fail", "stand still", "two orchestrators"] {
        assert!(!plan.contains(more), "less is enough for this flaw than {plan}");
    }
    assert!(story.lines().count() > 3, "{story}");
    assert_eq!(found(Some(&seed)), (told, seed), "the same from the seed alone");
}

/// Returns what a process tells of the flaw, and the seed that shows it.
fn found(seed: Option<&str>) -> (String, String) {
    let mut process = Command::new(env::current_exe().expect("this program"));
    let this = "told::a_flaw_is_told_with_as_little_as_shows_it_and_plays_again_from_its_seed";
    process.args(["--exact", this, "--nocapture"]).env(FINDS, "1");
    process.envs(seed.map(|seed| ("SAGA_SEED", seed)));
    let output = process.output().expect("this program can be started");
    assert!(!output.status.success(), "a flaw is a failure");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, told) = said.split_once(FLAW).unwrap_or_else(|| panic!("no flaw in: {said}"));
    let (told, rest) = told.split_once(AGAIN).expect("how to play it again");
    let again = rest.lines().next().expect("a seed, and what to run");
    let (seed, run) = again.split_once(' ').expect("a seed, and what to run");
    assert_eq!(run, format!("cargo test {this}"));
    (told.to_owned(), seed.to_owned())
}
