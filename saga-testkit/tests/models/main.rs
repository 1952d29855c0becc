//! Models whose every state is looked at, up to their bounds.
//!
//! Each model has more than a million states, and a test with a planted defect for each thing that it is there
//! to see. `MODEL_SIZE=1` looks at larger ones, with one more row, message and attempt: `relay` has 18 million states then,
//! and the others more than 20 GB hold.

#![allow(missing_docs, reason = "the modules of a test are its own")]

mod fencing;
mod relay;
mod saga;

use std::env;
use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker as _, HasDiscoveries, Model};

/// Fewer states than this prove little.
const STATES_MIN: usize = 1_000_000;

/// Returns how much is to be added to each bound.
fn size() -> u8 {
    env::var("MODEL_SIZE").map_or(0, |size| size.parse().expect("a small number"))
}

/// Looks at every state: what must always hold does, and what must be seen is.
#[track_caller]
fn holds<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + Send + Sync + Hash + Debug + 'static,
    M::Action: Clone + PartialEq + Send + Sync + Debug + 'static,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{states} states, {} steps deep", checker.max_depth());
    checker.assert_properties();
    assert!(states >= STATES_MIN, "only {states} states");
}

/// Finds a way to break what must always hold.
#[track_caller]
fn breaks<M>(model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + Send + Sync + Hash + Debug + 'static,
    M::Action: Clone + PartialEq + Send + Sync + Debug + 'static,
{
    let is_found = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().threads(2).finish_when(is_found).spawn_bfs().join();
    let found = checker.discovery(property);
    let story = found.unwrap_or_else(|| panic!("the defect is not seen as `{property}`"));
    println!("{property}: {:?}", story.into_actions());
}
