#[path = "support/shop.rs"]
mod shop;

use saga_core::Saga;
use shop::*;

fn main() {
    let _ = Saga::<Order>::builder().pivot(ChargeCard).parallel(|group| group.step(ReserveStock));
}
