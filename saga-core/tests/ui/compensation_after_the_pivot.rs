#[path = "support/shop.rs"]
mod shop;

use saga_core::Saga;
use shop::*;

fn main() {
    let _ = Saga::<Order>::builder()
        .pivot(ChargeCard)
        .compensation(saga_core::StepName::new("reject-order"), |_, _| Ask);
}
