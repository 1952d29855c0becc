//! A person deals with many letters at once.

use std::time::Duration;

use tracing::info;

use crate::StoreError;
use crate::store::{DeadLetters, LetterAction, LetterFilter, LetterOperation};

/// Letters of one transaction.
const PAGE: usize = 500;
/// How often a letter may come back before [`LetterTask`] leaves it out.
const REDRIVES_MAX: u32 = 10;

/// Redrives or discards all letters of a [filter](LetterFilter).
///
/// A letter that is redriven is handled by the consumer that set it aside, within seconds, as if it
/// had just been received: its effect happens once, also if it had been handled before. If it cannot
/// be handled now either it is set aside again. Who asked, and why, is on record in the transaction
/// that asks ([`DeadLetters::operations`]).
///
/// # Examples
///
/// ```
/// use saga_core::store::LetterFilter;
/// use saga_core::{LetterTask, MemoryStore, Topic};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = MemoryStore::new();
/// let broken = LetterFilter::all().topic(Topic::new("orders.events")).reason("undecodable-fact");
/// let redrive = LetterTask::redrive("ada", "decoder mended in 1.4").per_second(100);
///
/// let report = redrive.clone().dry_run().run(&store, &broken).await?;
/// println!("{} letters, and {} that came back too often", report.letters, report.left_out);
/// redrive.run(&store, &broken).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a task does nothing until it is run"]
pub struct LetterTask {
    operation: LetterOperation,
    pause: Duration,
    redrives_max: u32,
    is_dry: bool,
}

/// What a task did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LetterReport {
    /// To how many letters something was done.
    pub letters: usize,
    /// How many were left out because they came back too often.
    pub left_out: usize,
    /// How many were left out because it is not known who set them aside: they can only be discarded.
    pub of_nobody: usize,
}

impl LetterTask {
    /// Lets letters be handled again; says who asks for it and why.
    pub fn redrive(by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(LetterAction::Redrive, by.into(), reason.into())
    }

    /// Gives letters up; says who decided it and why. The copies in the dead-letter topics stay.
    ///
    /// One that its consumer has in hand at this moment is handled all the same.
    pub fn discard(by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(LetterAction::Discard, by.into(), reason.into())
    }

    fn new(action: LetterAction, by: String, reason: String) -> Self {
        let operation = LetterOperation { by, reason, action };
        Self { operation, pause: Duration::ZERO, redrives_max: REDRIVES_MAX, is_dry: false }
    }

    /// Lets so many letters come back in a second, on average; all at once by default. 0 counts as 1.
    ///
    /// Each is given its time when the task runs. Their consumer looks every 5 s, takes what is due by then, and
    /// handles it with what comes from the broker in between; one that was away meanwhile finds all of them due.
    pub fn per_second(self, letters: u32) -> Self {
        Self { pause: Duration::from_secs(1) / letters.max(1), ..self }
    }

    /// Leaves out letters that came back so often already; 10 by default. It ends a loop in which
    /// letters are redriven again and again. Discarding leaves out none.
    pub fn most_redrives(self, times: u32) -> Self {
        Self { redrives_max: times, ..self }
    }

    /// Only counts.
    pub fn dry_run(self) -> Self {
        Self { is_dry: true, ..self }
    }

    /// Goes through the letters, 500 at most in a transaction, and says what was done.
    ///
    /// What was done before an error stays done; a second run finds what is left. Letters that are set
    /// aside while it runs may be among them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the store cannot be reached, [`StoreError::Unexplained`] if the task does not say who
    /// asks for it and why.
    pub async fn run(
        &self,
        store: &impl DeadLetters,
        filter: &LetterFilter,
    ) -> Result<LetterReport, StoreError> {
        let LetterOperation { by, reason, action } = &self.operation;
        if by.trim().is_empty() || reason.trim().is_empty() {
            return Err(StoreError::Unexplained { operation: action.as_str() });
        }
        let mut report = LetterReport::default();
        let (mut after, mut at) = (None, Duration::ZERO);
        loop {
            let page = store.letters(filter, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(report) };
            after = Some(last.id);
            let mut chosen = Vec::with_capacity(page.len());
            for letter in page {
                let comes_back = *action == LetterAction::Redrive;
                if comes_back && letter.is_of_nobody() {
                    report.of_nobody += 1;
                } else if comes_back && letter.redrives >= self.redrives_max {
                    report.left_out += 1;
                } else {
                    chosen.push((letter.id, at));
                    at += self.pause;
                }
            }
            report.letters += if self.is_dry {
                chosen.len()
            } else {
                store.operate(&self.operation, &chosen).await?
            };
            let LetterReport { letters, left_out, of_nobody } = report;
            let (action, is_dry) = (action.as_str(), self.is_dry);
            info!(action, is_dry, letters, left_out, of_nobody, "going through dead letters");
        }
    }
}
