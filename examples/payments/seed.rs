//! Who has money at first.

use chassis::money::Money;
use chassis::seed::Seeded;

use super::{Account, AccountRepository};

/// Customer, what they have in cents, and whether their bank refuses to pay in the end.
const CUSTOMERS: &[(&str, i64, bool)] = &[
    // Cannot afford much.
    ("u-poor", 500, false),
    // Looks fine until the money is to be taken.
    ("u-frozen", 100_000_000, true),
];

/// So many more, `u-1` to `u-100`, have enough for anything.
const RICH: u32 = 100;

/// Opens the accounts that are missing, and makes the deposits that were never made.
pub(super) async fn load(accounts: &mut impl AccountRepository) -> anyhow::Result<Seeded> {
    let mut seeded = Seeded::default();
    for account in [Account::bank(), Account::held(), Account::shop()] {
        seeded.count(accounts.open(&account, false).await?);
    }
    let rich = (1..=RICH).map(|number| (format!("u-{number}"), 100_000_000, false));
    let others = CUSTOMERS.iter().map(|&(user, minor, frozen)| (user.to_owned(), minor, frozen));
    for (user, minor, frozen) in rich.chain(others) {
        let (customer, deposit) = (Account::customer(&user), Money::new(minor));
        let is_new = accounts.open(&customer, frozen).await?;
        seeded.count(accounts.deposit(&user, &customer, &deposit).await? || is_new);
    }
    Ok(seeded)
}

#[cfg(test)]
mod tests {
    use saga_core::MemoryStore;
    use saga_core::store::Transactional as _;

    use super::*;
    use crate::payments::in_memory;

    #[tokio::test]
    async fn what_is_there_stays_as_it_is() {
        let store = in_memory().await.expect("the seed data fits together");
        let mut transaction = store.begin().await.expect("a transaction");
        let books = MemoryStore::connection(&mut transaction);
        let again = load(books).await.expect("loaded again");
        assert_eq!(again, Seeded { added: 0, kept: 105 });
        transaction.commit().await.expect("a commit");
        assert_eq!(store.read(|books| books.on(&Account::customer("u-poor"))), 500);
    }
}
