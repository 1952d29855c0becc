//! What can be wrong with the inbox.

use bytes::Bytes;
use saga_core::participant::{Handled, InboxRecord, Remembered};
use saga_core::store::{DeadLetter, MemoryTransaction, Tick, Transactional};
use saga_core::{Inbox, MessageId, StoreError};

use super::{Broken, Defect, cut};

impl Inbox for Broken {
    async fn recorded(
        &self,
        transaction: &mut MemoryTransaction<Vec<String>>,
        commands: &[MessageId],
    ) -> Result<Remembered, StoreError> {
        let mut remembered = self.inner.recorded(transaction, commands).await?;
        let found = &mut remembered.records;
        match self.defect {
            Some(Defect::HandlesBlindly | Defect::SwallowsConflictsOfBlindHandlers)
                if commands.len() == 1 =>
            {
                found.clear();
            }
            Some(Defect::InventsRecords) => *found = commands.iter().map(|&id| empty(id)).collect(),
            Some(Defect::ClaimsWhatItLooksFor) => {
                let mut notes = self.notes();
                let claimed = commands.iter().filter(|id| notes.claimed.contains(id));
                found.extend(claimed.map(|&id| empty(id)));
                notes.claimed.extend(commands);
            }
            Some(Defect::ForgetsEmptyReplies) => found.retain(|record| !record.reply.is_empty()),
            Some(Defect::CutsReplies) => {
                for record in found {
                    record.reply = cut(&record.reply);
                }
            }
            Some(Defect::HidesWhatItPurged) => remembered.purged_below = None,
            _ => {}
        }
        Ok(remembered)
    }

    async fn record(
        &self,
        mut transaction: MemoryTransaction<Vec<String>>,
        mut handled: Handled,
    ) -> Result<(), StoreError> {
        self.distort_handled(&mut handled)?;
        let Handled { outbox, sent, dead_letters, .. } = handled.clone();
        let leftover = Tick { outbox, sent, dead_letters, ..Tick::default() };
        match self.defect {
            Some(Defect::CommitsTheEffectAlone) => return transaction.commit().await,
            Some(Defect::ForgetsTheEffect) => {
                drop(transaction);
                transaction = self.inner.begin().await?;
            }
            Some(Defect::CommitsTheEffectFirst) => {
                transaction.commit().await?;
                transaction = self.inner.begin().await?;
            }
            Some(Defect::IgnoresSecondRecords | Defect::HandlesBlindly) => {
                let commands: Vec<_> =
                    handled.records.iter().map(|record| record.command).collect();
                let known = self.inner.recorded(&mut transaction, &commands).await?.records;
                handled
                    .records
                    .retain(|record| known.iter().all(|known| known.command != record.command));
            }
            _ => {}
        }
        let result = self.inner.record(transaction, handled).await;
        let result = self.after(result, leftover, ()).await;
        let blind = self.has(Defect::SwallowsConflictsOfBlindHandlers);
        if blind && matches!(result, Err(StoreError::Conflict)) { Ok(()) } else { result }
    }

    async fn begin_attempts(&self, commands: &[MessageId]) -> Result<Vec<MessageId>, StoreError> {
        match self.defect {
            Some(Defect::CountsNoAttempts) => Ok(commands.to_vec()),
            Some(Defect::CountsAttemptsOnce) => {
                self.inner.end_attempts(commands).await?;
                self.inner.begin_attempts(commands).await
            }
            Some(Defect::ClaimsToCountWhatIsRecorded) => {
                self.inner.begin_attempts(commands).await?;
                Ok(commands.to_vec())
            }
            _ => self.inner.begin_attempts(commands).await,
        }
    }

    async fn unfinished(
        &self,
        commands: &[MessageId],
    ) -> Result<Vec<(MessageId, u32)>, StoreError> {
        if self.has(Defect::DoubtsWhatIsRecorded) {
            return Ok(commands.iter().map(|&command| (command, 1)).collect());
        }
        self.inner.unfinished(commands).await
    }

    async fn end_attempts(&self, commands: &[MessageId]) -> Result<(), StoreError> {
        if self.has(Defect::EndsNoAttempts) {
            return Ok(());
        }
        self.inner.end_attempts(commands).await
    }
}

impl Broken {
    fn distort_handled(&self, handled: &mut Handled) -> Result<(), StoreError> {
        self.distort_rows(&mut handled.outbox, &mut handled.sent);
        let letters = &mut handled.dead_letters;
        match self.defect {
            Some(Defect::ForgetsDeadLetters) => letters.clear(),
            Some(Defect::CutsDeadLetters) => {
                for letter in letters {
                    letter.value = cut(&letter.value);
                }
            }
            Some(Defect::KeepsEveryDeadLetter) => {
                self.notes().dead_letters.extend(letters.iter().cloned());
            }
            Some(Defect::CountsACommitTwice) => {
                for letter in letters.iter_mut().filter(|it| self.has_kept(it)) {
                    letter.id = MessageId::now();
                }
            }
            Some(Defect::RefusesASecondDeadLetter)
                if letters.iter().any(|it| self.has_kept(it)) =>
            {
                return Err(StoreError::Conflict);
            }
            _ => {}
        }
        Ok(())
    }

    fn has_kept(&self, letter: &DeadLetter) -> bool {
        self.inner.dead_letters().iter().any(|kept| kept.offset == letter.offset)
    }
}

fn empty(command: MessageId) -> InboxRecord {
    InboxRecord { command, reply: Bytes::new() }
}
