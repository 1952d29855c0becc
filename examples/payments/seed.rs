//! Who has money on a first start.

use super::{Account, AccountRepository};
use crate::shared::money::Money;

/// Customer, what they have in cents, and whether their bank refuses to pay in the end.
const CUSTOMERS: &[(&str, i64, bool)] = &[
    // Cannot afford much.
    ("u-poor", 500, false),
    // Looks fine until the money is to be taken.
    ("u-frozen", 100_000_000, true),
];

/// So many more, `u-1` to `u-100`, have enough for anything.
const RICH: u32 = 100;

/// Fills empty tables.
pub(super) async fn load(accounts: &mut impl AccountRepository) -> anyhow::Result<()> {
    for account in [Account::bank(), Account::held(), Account::shop()] {
        accounts.open(&account, false).await?;
    }
    let rich = (1..=RICH).map(|number| (format!("u-{number}"), 100_000_000, false));
    let others = CUSTOMERS.iter().map(|&(user, minor, frozen)| (user.to_owned(), minor, frozen));
    for (user, minor, frozen) in rich.chain(others) {
        let (customer, deposit) = (Account::customer(&user), Money::new(minor));
        accounts.open(&customer, frozen).await?;
        accounts.deposit(&user, &customer, &deposit).await?;
    }
    Ok(())
}
