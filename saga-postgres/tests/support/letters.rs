//! What is done to letters, and what is on record of it.

use saga_core::store::{DeadLetter, DeadLetters as _, LetterFilter, LetterOperation};
use saga_core::{LetterTask, MessageId};
use saga_testkit::Fixture as _;

use crate::orders::{Shop, until};

pub(crate) async fn letters(shop: &Shop) -> Vec<DeadLetter> {
    shop.fresh.dead_letters().await
}

pub(crate) async fn letters_are(shop: &Shop, number: usize) {
    until("the number of letters", || async { letters(shop).await.len() == number }).await;
}

/// Runs a task over one letter, or over all, and returns to how many something was done.
pub(crate) async fn run(shop: &Shop, task: LetterTask, filter: &LetterFilter) -> usize {
    task.run(&shop.fresh.store, filter).await.expect("the store answers").letters
}

/// Returns what is on record: what was done to which letter, by whom and why.
pub(crate) async fn on_record(shop: &Shop) -> Vec<(MessageId, &'static str, String)> {
    let operations = shop.fresh.store.operations(0, 100).await.expect("the store answers");
    let entry = |LetterOperation { by, reason, action }, letter| {
        (letter, action.as_str(), format!("{by}: {reason}"))
    };
    operations.into_iter().map(|it| entry(it.operation, it.letter)).collect()
}

pub(crate) fn redrive() -> LetterTask {
    LetterTask::redrive("ada", "mended")
}

pub(crate) fn discard() -> LetterTask {
    LetterTask::discard("ada", "mended")
}
