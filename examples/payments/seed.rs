//! Who has money on a first start.

use super::{Account, AccountRepository};
use crate::shared::money::Money;

/// Customer, what they have in cents, and whether their bank refuses to pay in the end.
const CUSTOMERS: &[(&str, i64, bool)] = &[
    ("u-1", 100_000_000, false),
    ("u-2", 100_000_000, false),
    // Cannot afford much.
    ("u-poor", 500, false),
    // Looks fine until the money is to be taken.
    ("u-frozen", 100_000_000, true),
];

/// Fills empty tables.
pub(super) async fn load(accounts: &mut impl AccountRepository) -> anyhow::Result<()> {
    for account in [Account::bank(), Account::held(), Account::shop()] {
        accounts.open(&account, false).await?;
    }
    for (user, minor, frozen) in CUSTOMERS {
        let (customer, deposit) = (Account::customer(user), Money::new(*minor));
        accounts.open(&customer, *frozen).await?;
        accounts.transfer(user, "deposit", &deposit, &Account::bank(), &customer).await?;
    }
    Ok(())
}
