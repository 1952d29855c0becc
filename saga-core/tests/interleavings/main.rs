//! Any interleaving of replies, duplicates, time-outs, crashes, zombies and people ends completed or
//! compensated, all or nothing.
//!
//! Two engines share one store and drive one saga of a random definition against participants that
//! follow a random script. Nothing but what was committed survives; what is published may come late,
//! twice and in any order. A failing case prints its story.
//!
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` set how many and which cases are run.

#![expect(unreachable_pub, reason = "the modules of a test are its own")]
#![allow(missing_docs, reason = "the modules of a test are its own")]

mod definitions;
mod simulation;
mod world;

use std::cell::RefCell;
use std::env;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use definitions::{Recipe, recipes};
use simulation::{Move, Simulation, moves};
use world::{Script, scripts};

/// What was seen over a run, so that a run in which nothing bit does not pass.
#[derive(Debug, Default)]
pub struct Seen {
    pub completed: u32,
    pub compensated: u32,
    pub parked: u32,
    pub woken_by_late_answers: u32,
    pub duplicate_commands: u32,
    pub duplicate_replies: u32,
    pub late_replies: u32,
    pub refused_late_commands: u32,
    pub empty_compensations: u32,
    pub crashes_before_commit: u32,
    pub crashes_after_commit: u32,
    pub conflicts: u32,
    pub doubts: u32,
    pub cancels: u32,
    pub operations: u32,
    pub refusals: u32,
    pub skipped_steps: u32,
}

impl Seen {
    fn all(&self) -> [(&'static str, u32); 17] {
        [
            ("completed", self.completed),
            ("compensated", self.compensated),
            ("parked", self.parked),
            ("woken by late answers", self.woken_by_late_answers),
            ("duplicate commands", self.duplicate_commands),
            ("duplicate replies", self.duplicate_replies),
            ("late replies", self.late_replies),
            ("refused late commands", self.refused_late_commands),
            ("empty compensations", self.empty_compensations),
            ("crashes before commit", self.crashes_before_commit),
            ("crashes after commit", self.crashes_after_commit),
            ("conflicts", self.conflicts),
            ("doubts", self.doubts),
            ("cancels", self.cancels),
            ("operations", self.operations),
            ("refusals", self.refusals),
            ("skipped steps", self.skipped_steps),
        ]
    }
}

/// One random saga, with what happens to it.
type Case = (Recipe, Vec<Script>, Vec<Move>);

fn cases() -> impl Strategy<Value = Case> {
    (recipes(), scripts(definitions::STEPS_MAX), moves())
}

/// F14, F15, F60, F61, F63, F64, I1, I2, I8, I9.
#[test]
fn any_interleaving_ends_all_or_nothing() {
    let mut config =
        Config { failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 3_000;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let runs = config.cases;
    let seen = RefCell::new(Seen::default());
    let result = TestRunner::new(config).run(&cases(), |(recipe, scripts, moves)| {
        let mut seen = seen.borrow_mut();
        Simulation::new(&recipe, scripts, &mut seen)
            .run(&moves)
            .map_err(|story| TestCaseError::fail(format!("\n{story}")))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    for (what, times) in seen.all() {
        println!("{times:8} {what}");
    }
    if runs >= 1_000 {
        for (what, times) in seen.all() {
            assert!(times > 0, "no {what} in {runs} sagas: this run proves little");
        }
    }
}
