use saga_core::StepName;

const RESERVE_STOCK: StepName = StepName::new("reserve stock");

fn main() {
    let _ = RESERVE_STOCK;
}
