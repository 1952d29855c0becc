//! Sagas that are proved.

#![expect(unreachable_pub, reason = "the modules of a test are its own")]
#![allow(missing_docs, reason = "the modules of a test are its own")]

mod defects;
mod shop;

use saga_testkit::{prove, simulate};
use shop::Shop;

#[test]
fn an_order_is_all_or_nothing_whatever_goes_wrong() {
    let report = prove(&Shop);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}

#[test]
fn an_order_is_all_or_nothing_by_chance() {
    let report = simulate(&Shop, 0..10_000);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}
