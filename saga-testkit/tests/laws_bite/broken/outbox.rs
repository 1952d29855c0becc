//! What can be wrong with the outbox.

use std::time::Duration;

use saga_core::store::{Lane, OutboxRow};
use saga_core::{Outbox, OutboxId, StoreError};

use super::{Broken, Defect, between_two_statements, cut};

const AGES: Duration = Duration::from_hours(100_000);

impl Outbox for Broken {
    async fn unsent(&self, lanes: &[Lane], bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let all = usize::MAX;
        let mut rows = match self.defect {
            Some(Defect::IgnoresLimits) => self.inner.unsent(lanes, all).await?,
            Some(Defect::LimitsFromTheEnd) => {
                let rows = self.inner.unsent(lanes, all).await?;
                let mut free = bytes;
                let has_room = |row: &OutboxRow| {
                    let is_within = free > 0;
                    free = free.saturating_sub(row.body.len());
                    is_within
                };
                let mut rows: Vec<_> = rows.into_iter().rev().take_while(has_room).collect();
                rows.reverse();
                rows
            }
            Some(Defect::MixesLanesOfAnOwner) => {
                self.inner
                    .unsent(&self.mixed(|lane, asked| lane.owner() == asked.owner(), lanes), bytes)
                    .await?
            }
            Some(Defect::MixesOwners) => {
                self.inner
                    .unsent(
                        &self.mixed(|lane, asked| lane.number() == asked.number(), lanes),
                        bytes,
                    )
                    .await?
            }
            Some(Defect::ReadsOneLaneOnly) => {
                self.inner.unsent(&lanes[..lanes.len().min(1)], bytes).await?
            }
            _ => self.inner.unsent(lanes, bytes).await?,
        };
        match self.defect {
            Some(Defect::OutboxComesBackwards) => rows.reverse(),
            Some(Defect::CutsRows) => rows.iter_mut().for_each(|row| row.body = cut(&row.body)),
            _ => {}
        }
        Ok(rows)
    }

    async fn sent(&self, rows: &[OutboxId]) -> Result<(), StoreError> {
        match self.defect {
            Some(Defect::SentDoesNothing) => Ok(()),
            Some(Defect::SentIsACursor) => {
                let last = rows.iter().max().copied();
                let passed: Vec<_> = self
                    .notes()
                    .rows
                    .iter()
                    .map(|row| row.id)
                    .filter(|id| Some(*id) <= last)
                    .collect();
                self.inner.sent(&passed).await
            }
            Some(Defect::FailsOnRowsThatAreGone) => {
                let before = self.inner.outbox_len();
                self.inner.sent(rows).await?;
                if before - self.inner.outbox_len() < rows.len() {
                    let source = "fewer rows than expected were deleted".into();
                    return Err(StoreError::Refused { operation: "sent", source });
                }
                Ok(())
            }
            _ => self.inner.sent(rows).await,
        }
    }

    async fn lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        match self.defect {
            Some(Defect::LeasesToAnybody) => Ok(true),
            Some(Defect::LeasesForEver) if !duration.is_zero() => {
                self.inner.lease(lane, holder, AGES).await
            }
            Some(Defect::LeasesAllLanesAtOnce) => {
                self.inner.lease(&Lane::application(), holder, duration).await
            }
            Some(Defect::RefusesRenewal)
                if self.holder(lane) == Some(holder) && !duration.is_zero() =>
            {
                Ok(false)
            }
            Some(Defect::LetsAnybodyRelease) if duration.is_zero() => {
                let holder = self.holder(lane).unwrap_or(holder);
                self.inner.lease(lane, holder, duration).await
            }
            Some(Defect::ChecksLeasesThenWrites) => {
                self.check_then_lease(lane, holder, duration).await
            }
            _ => self.lease_and_note(lane, holder, duration).await,
        }
    }
}

impl Broken {
    /// What goes wrong with the outbox on the way into a commit.
    pub(super) fn distort_rows(&self, outbox: &mut Vec<OutboxRow>, sent: &mut Vec<OutboxId>) {
        self.notes().rows.extend(outbox.iter().cloned());
        match self.defect {
            Some(Defect::ForgetsWhatToSend) => outbox.clear(),
            Some(Defect::ForgetsWhatWasSent) => sent.clear(),
            _ => {}
        }
    }

    fn mixed(&self, mixes: impl Fn(&Lane, &Lane) -> bool, lanes: &[Lane]) -> Vec<Lane> {
        let notes = self.notes();
        let used = notes.rows.iter().map(|row| row.lane.clone());
        used.filter(|lane| lanes.iter().any(|asked| mixes(lane, asked))).collect()
    }

    fn holder(&self, lane: &Lane) -> Option<OutboxId> {
        self.notes().holders.get(lane).copied()
    }

    async fn lease_and_note(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        let leased = self.inner.lease(lane, holder, duration).await?;
        if leased {
            self.notes().holders.insert(lane.clone(), holder);
        }
        Ok(leased)
    }

    async fn check_then_lease(
        &self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
    ) -> Result<bool, StoreError> {
        let seen = self.holder(lane);
        between_two_statements().await;
        let leased = self.lease_and_note(lane, holder, duration).await?;
        Ok(leased || seen.is_none())
    }
}
