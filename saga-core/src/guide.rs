//! The patterns behind this library, one a page: what each is for, how it fails, and who wrote it down first.
//!
//! Read them in order, or start with [`_02_first_saga`] and come back. Every example is a program
//! that runs, in memory, as a test of this library.
//!
//! | page | what it is about |
//! |---|---|
//! | [`_01_why_sagas`] | one business operation over several databases, without a transaction over all of them |
//! | [`_02_first_saga`] | a whole program, line by line |
//! | [`_03_compensation_and_the_pivot`] | what is undone, in which order, and where there is no way back |
//! | [`_04_outbox_inbox_relay`] | no message without its change, no change without its message |
//! | [`_05_idempotency`] | doing it twice and having done it once |
//! | [`_06_retries_and_dead_letters`] | which failures are waited out, which are given up, and what is kept |
//! | [`_07_testing_a_saga`] | every failure path, in milliseconds and without luck |
//! | [`_08_writing_a_backend`] | a store of your own, proved against the laws |
//! | [`_09_changing_a_running_saga`] | a new definition while sagas of the old one are on their way |
//! | [`_10_operating`] | what to watch, and what to do with a saga that is parked |

#[doc = include_str!("../docs/01-why-sagas.md")]
pub mod _01_why_sagas {}

#[doc = include_str!("../docs/02-first-saga.md")]
pub mod _02_first_saga {}

#[doc = include_str!("../docs/03-compensation-and-the-pivot.md")]
pub mod _03_compensation_and_the_pivot {}

#[doc = include_str!("../docs/04-outbox-inbox-relay.md")]
pub mod _04_outbox_inbox_relay {}

#[doc = include_str!("../docs/05-idempotency.md")]
pub mod _05_idempotency {}

#[doc = include_str!("../docs/06-retries-and-dead-letters.md")]
pub mod _06_retries_and_dead_letters {}

#[doc = include_str!("../docs/07-testing-a-saga.md")]
pub mod _07_testing_a_saga {}

#[doc = include_str!("../docs/08-writing-a-backend.md")]
pub mod _08_writing_a_backend {}

#[doc = include_str!("../docs/09-changing-a-running-saga.md")]
pub mod _09_changing_a_running_saga {}

#[doc = include_str!("../docs/10-operating.md")]
pub mod _10_operating {}
