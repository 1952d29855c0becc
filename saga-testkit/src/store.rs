//! The laws of [`SagaStore`](saga_core::SagaStore) and its [`Outbox`](saga_core::Outbox).
//!
//! Each law is a function that takes a fresh [`Fixture`](crate::Fixture) and panics with what is
//! broken. [`store_conformance!`](crate::store_conformance) makes a test of each.
//!
//! The laws need a store whose clock runs by itself: they wait for the end of a lease.

mod commits;
mod keys;
mod lists;
mod outbox;
mod races;
mod timers;
mod transactions;

pub use commits::{
    a_committed_saga_is_loaded_as_it_was_committed, a_second_start_of_a_saga_is_a_conflict,
    a_stale_commit_is_a_conflict, a_tick_is_all_or_nothing, history_is_kept_in_order,
    unknown_sagas_are_left_out_of_a_load,
};
pub use keys::{
    a_key_finds_its_saga, a_second_start_of_a_key_is_a_conflict,
    keys_of_different_definitions_are_different,
};
pub use lists::{a_filter_of_sagas_leaves_the_others_out, sagas_are_listed_in_pages_newest_first};
pub use outbox::{
    a_lease_has_one_holder, lanes_are_separate, sent_rows_are_gone_and_only_those,
    unsent_rows_come_back_in_order,
};
pub use races::{
    commits_of_the_same_sagas_in_any_order_do_not_deadlock,
    concurrent_commits_of_one_saga_have_one_winner,
};
pub use timers::{
    a_kept_wake_time_stays, a_saga_is_due_from_its_wake_time_on, an_ended_saga_is_never_due,
    definitions_in_use_are_those_of_sagas_under_way,
    due_sagas_come_earliest_first_and_within_the_limit,
};
pub use transactions::{
    a_conflict_undoes_the_effect, a_dropped_transaction_changes_nothing,
    an_effect_and_its_tick_commit_together,
};

/// Hands the names of all laws of a store to another macro, after what is in the brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_laws {
    ($then:ident [$($given:tt)*]) => {
        $crate::$then! {
            [$($given)*]
            a_tick_is_all_or_nothing
            a_committed_saga_is_loaded_as_it_was_committed
            a_stale_commit_is_a_conflict
            a_second_start_of_a_saga_is_a_conflict
            a_second_start_of_a_key_is_a_conflict
            a_key_finds_its_saga
            keys_of_different_definitions_are_different
            unknown_sagas_are_left_out_of_a_load
            history_is_kept_in_order
            concurrent_commits_of_one_saga_have_one_winner
            commits_of_the_same_sagas_in_any_order_do_not_deadlock
            a_saga_is_due_from_its_wake_time_on
            a_kept_wake_time_stays
            an_ended_saga_is_never_due
            due_sagas_come_earliest_first_and_within_the_limit
            definitions_in_use_are_those_of_sagas_under_way
            sagas_are_listed_in_pages_newest_first
            a_filter_of_sagas_leaves_the_others_out
            a_dropped_transaction_changes_nothing
            an_effect_and_its_tick_commit_together
            a_conflict_undoes_the_effect
            unsent_rows_come_back_in_order
            lanes_are_separate
            sent_rows_are_gone_and_only_those
            a_lease_has_one_holder
        }
    };
}

/// The names of all laws in this module.
pub const LAWS: &[&str] = crate::__store_laws!(__names []);

/// Makes a `#[test]` of each law of a store, each on what `fixture().await` gives.
///
/// `fixture` is the path of an async function without arguments that returns a fresh
/// [`Fixture`](crate::Fixture) whose store is a [`SagaStore`](saga_core::SagaStore). The crate page
/// has an example.
#[macro_export]
macro_rules! store_conformance {
    ($fixture:path) => {
        $crate::__store_laws! { __tests [store, $fixture] }
    };
}
