//! Sagas that are proved. `PROOF_SEEDS=100000` plays so many runs by chance.

#![expect(unreachable_pub, reason = "the modules of a test are its own")]
#![allow(missing_docs, reason = "the modules of a test are its own")]

mod defects;
mod listener;
mod shop;
mod told;

use std::env;

use saga_testkit::{prove, simulate, story};
use shop::Shop;

/// F01, F03, F60, F61, F62, F63, F65, I1, I2, I4, I8, I9.
#[test]
fn an_order_is_all_or_nothing_whatever_goes_wrong() {
    let report = prove(&Shop);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}

/// F01, F02, F03, F13, F14, F15, F60, F61, I1, I2, I4, I5, I6, I7, I8, I9, I10, I13.
#[test]
fn an_order_is_all_or_nothing_by_chance() {
    let seeds = env::var("PROOF_SEEDS").map_or(10_000, |it| it.parse().expect("a number"));
    let report = simulate(&Shop, 0..seeds);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}

/// A seed decides everything: what is seen once can be looked at again.
#[test]
fn a_seed_plays_the_same_story_twice() {
    for seed in 0..500 {
        let (first, second) = (story(&Shop, seed), story(&Shop, seed));
        assert!(first.len() > 1, "a story of seed {seed}: {first:?}");
        assert_eq!(first, second, "seed {seed}");
    }
}
