//! Lanes that are behind: the store may have rows of them that are not here.

use std::collections::{BTreeSet, HashSet};

use tracing::{info, warn};

use super::{Outlet, PAGE, PAGE_MAX, SEARCHED};
use crate::Timestamp;
use crate::store::{OutboxRow, StoreError};

impl Outlet {
    /// Notes that the store may have rows of these lanes that are not here.
    pub(crate) fn fall_behind(&mut self, lanes: impl IntoIterator<Item = u32>) {
        self.behind.extend(lanes);
    }

    /// Notes that these lanes are somebody else's: nothing more of them is to be read back.
    pub(crate) fn leave(&mut self, lanes: impl IntoIterator<Item = u32>) {
        for lane in lanes {
            self.behind.remove(&lane);
            self.standing.remove(&lane);
            self.refused.forget(lane);
        }
    }

    /// Returns the lanes that can be read back now, and how many bytes: those of which nothing is on its way.
    ///
    /// What is acknowledged is to be deleted first, so that it is not read again.
    pub(crate) fn to_read_back(&self) -> Option<(Vec<u32>, usize)> {
        if self.behind.is_empty() || !self.has_room() {
            return None;
        }
        let is_full = self.refused.is_full();
        let stands_still = |lane: &u32| is_full && self.standing.contains(lane);
        let is_free = |lane: &u32| !self.on_their_way.contains_key(lane) && !stands_still(lane);
        let lanes: Vec<_> = self.behind.iter().copied().filter(is_free).collect();
        (!lanes.is_empty()).then_some((lanes, self.page))
    }

    /// Puts rows in line that were read back; fewer bytes than were asked for are all that there was.
    ///
    /// Returns false if nothing more can be read back before some rows are deleted.
    pub(crate) fn read_back(
        &mut self,
        lanes: &[u32],
        asked: usize,
        mut rows: Vec<OutboxRow>,
    ) -> bool {
        let is_last = rows.iter().map(|row| row.body.len()).sum::<usize>() < asked;
        let seen: BTreeSet<_> = rows.iter().map(|row| row.lane.number()).collect();
        let acknowledged: HashSet<_> = self.acknowledged.iter().copied().collect();
        rows.retain(|row| !acknowledged.contains(&row.id));
        let (new, before) = (rows.len(), self.rows.len());
        let refused: HashSet<_> = self.refused.ids().collect();
        rows.retain(|row| !refused.contains(&row.id));
        // Of parts that went to another owner meanwhile nothing is left here.
        rows.iter().for_each(|row| _ = self.parts_left.remove(&row.id));
        let stand_still = self.push_rows(rows);
        let pushed = self.rows.len() - before;
        if pushed > 0 {
            info!(rows = pushed, "publishing what waits in the outbox");
        }
        // Rows that cannot be read stay, so a larger page looks behind them. What is behind the
        // largest waits for somebody who mends or removes them.
        let is_stuck = new > 0 && pushed == 0 && !is_last && stand_still.is_empty();
        let looks_on = is_stuck && asked < PAGE_MAX;
        self.page = if looks_on { asked * 2 } else { PAGE };
        if is_last {
            self.behind.retain(|lane| !lanes.contains(lane));
        } else if is_stuck && !looks_on {
            self.behind.retain(|lane| !seen.contains(lane));
        }
        stand_still.into_iter().for_each(|lane| self.stand_still(lane));
        is_last || new > 0
    }

    /// Notes that a lane has something for which there is no room behind what is refused.
    pub(super) fn stand_still(&mut self, lane: u32) {
        self.behind.insert(lane);
        self.standing.insert(lane);
    }

    /// Returns those of our lanes that forgotten rows are to be searched for in, and how many bytes
    /// to read; nothing if now is no time for it.
    pub(crate) fn to_search(&self, ours: &BTreeSet<u32>) -> Option<(Vec<u32>, usize)> {
        let lanes: Vec<_> = ours.difference(&self.behind).copied().collect();
        let may_search = self.bytes < SEARCHED && !lanes.is_empty();
        may_search.then_some((lanes, self.bytes() + SEARCHED))
    }

    /// Notes the lanes of rows that an earlier owner committed after we had looked, and then died.
    pub(crate) fn searched(&mut self, unsent: Result<Vec<OutboxRow>, StoreError>, now: Timestamp) {
        match unsent {
            Ok(rows) => {
                let held = self.held();
                let forgotten = |row: &&OutboxRow| row.is_forgotten(now) && !held.contains(&row.id);
                let lanes: Vec<_> =
                    rows.iter().filter(forgotten).map(|row| row.lane.number()).collect();
                self.fall_behind(lanes);
            }
            Err(error) => warn!(%error, "the outbox cannot be read; trying again"),
        }
    }
}
