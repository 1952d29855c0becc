#[path = "support/shop.rs"]
mod shop;

use saga_core::Saga;
use shop::*;

fn main() {
    let _ = Saga::<Order>::builder().then_parallel(|group| group.step(ReserveStock));
}
