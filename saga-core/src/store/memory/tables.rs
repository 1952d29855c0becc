//! The engine's tables in memory: a change is checked as a whole, then applied as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::letters::Letters;
use crate::ids::first_at;
use crate::participant::{Handled, InboxRecord, Remembered};
use crate::store::{
    Commit, DeadLetter, DefinitionInUse, DueSaga, HistoryRecord, Lane, ListedSaga, NewSaga,
    OutboxRow, PurgedSagas, SagaFilter, Snapshot, Tick, Version, WakeAt,
};
use crate::{IdempotencyKey, MessageId, OutboxId, SagaId, SagaName, StoreError, Timestamp};

/// What is written together: a tick, what a participant handled, or what an application enqueued.
#[derive(Default)]
pub(super) struct Change {
    commits: Vec<Commit>,
    records: Vec<InboxRecord>,
    pub(super) outbox: Vec<OutboxRow>,
    sent: Vec<OutboxId>,
    dead_letters: Vec<DeadLetter>,
}

impl From<Tick> for Change {
    fn from(tick: Tick) -> Self {
        let Tick { commits, outbox, sent, dead_letters } = tick;
        Self { commits, records: Vec::new(), outbox, sent, dead_letters }
    }
}

impl From<Handled> for Change {
    fn from(handled: Handled) -> Self {
        let Handled { records, outbox, sent, dead_letters } = handled;
        Self { commits: Vec::new(), records, outbox, sent, dead_letters }
    }
}

/// The tables, and the indexes over them.
#[derive(Default)]
pub(super) struct Tables {
    /// By id, so by the time of their start.
    sagas: BTreeMap<SagaId, SagaRow>,
    keys: HashMap<(SagaName, IdempotencyKey), SagaId>,
    wakes: BTreeSet<(Timestamp, SagaId)>,
    outbox: BTreeMap<(Lane, OutboxId), Bytes>,
    lanes: HashMap<OutboxId, Lane>,
    leases: HashMap<Lane, Lease>,
    inbox: BTreeMap<MessageId, Bytes>,
    /// Attempts at commands, until they end.
    attempts: BTreeMap<MessageId, u32>,
    /// Records of commands with a lower id may have been purged.
    purged_below: Option<MessageId>,
    pub(super) letters: Letters,
}

struct SagaRow {
    snapshot: Snapshot,
    history: Vec<HistoryRecord>,
    started_at: Timestamp,
    updated_at: Timestamp,
}

impl SagaRow {
    fn starts(snapshot: Snapshot, now: Timestamp) -> Self {
        Self { snapshot, history: Vec::new(), started_at: now, updated_at: now }
    }

    fn listed(&self) -> ListedSaga {
        let Snapshot { saga, new, status, .. } = &self.snapshot;
        ListedSaga {
            saga: *saga,
            name: new.name.clone(),
            definition_version: new.definition_version,
            key: new.key.clone(),
            status: *status,
            started_at: self.started_at,
            updated_at: self.updated_at,
        }
    }
}

struct Lease {
    holder: OutboxId,
    until: Timestamp,
}

impl Tables {
    /// Applies a change if nothing in it is in conflict with what is stored; otherwise does nothing.
    pub(super) fn apply(&mut self, change: Change, now: Timestamp) -> Result<(), StoreError> {
        self.check_commits(&change.commits)?;
        self.check_records(&change.records)?;
        self.check_outbox(&change.outbox)?;
        // From here on nothing can fail.
        self.remove_sent(&change.sent);
        for commit in change.commits {
            self.write_saga(commit, now);
        }
        self.inbox.extend(change.records.into_iter().map(|record| (record.command, record.reply)));
        for row in change.outbox {
            self.lanes.insert(row.id, row.lane.clone());
            self.outbox.insert((row.lane, row.id), row.body);
        }
        change.dead_letters.into_iter().for_each(|letter| self.letters.set_aside(letter, now));
        Ok(())
    }

    fn check_commits(&self, commits: &[Commit]) -> Result<(), StoreError> {
        let mut sagas = HashSet::with_capacity(commits.len());
        let mut keys = HashSet::new();
        for commit in commits {
            if !sagas.insert(commit.saga) {
                return Err(refused("a saga is committed twice in one tick"));
            }
            match &commit.new {
                Some(new) if commit.expected == Version(0) => {
                    self.check_start(commit.saga, new)?;
                    if new.key.as_ref().is_some_and(|key| !keys.insert((&new.name, key))) {
                        return Err(refused("two sagas start under one key in one tick"));
                    }
                }
                None if commit.expected != Version(0) => self.check_version(commit)?,
                Some(_) | None => {
                    return Err(refused("`new` is given exactly if `expected` is 0"));
                }
            }
        }
        Ok(())
    }

    fn check_start(&self, saga: SagaId, new: &NewSaga) -> Result<(), StoreError> {
        let key = new.key.as_ref().map(|key| (new.name.clone(), key.clone()));
        let key_is_taken = key.is_some_and(|key| self.keys.contains_key(&key));
        if key_is_taken || self.sagas.contains_key(&saga) {
            return Err(StoreError::Conflict);
        }
        Ok(())
    }

    fn check_version(&self, commit: &Commit) -> Result<(), StoreError> {
        let stored = self.sagas.get(&commit.saga).map(|row| row.snapshot.version);
        if stored == Some(commit.expected) { Ok(()) } else { Err(StoreError::Conflict) }
    }

    fn check_records(&self, records: &[InboxRecord]) -> Result<(), StoreError> {
        let mut commands = HashSet::with_capacity(records.len());
        for record in records {
            if !commands.insert(record.command) {
                return Err(refused("a command is recorded twice in one transaction"));
            }
            let is_forgotten = self.purged_below.is_some_and(|below| record.command < below);
            if is_forgotten || self.inbox.contains_key(&record.command) {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    fn check_outbox(&self, rows: &[OutboxRow]) -> Result<(), StoreError> {
        let mut ids = HashSet::with_capacity(rows.len());
        for row in rows {
            if !ids.insert(row.id) {
                return Err(refused("an outbox row is appended twice in one transaction"));
            }
            if self.lanes.contains_key(&row.id) {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    fn write_saga(&mut self, commit: Commit, now: Timestamp) {
        let Commit { saga, expected, new, status, wake_at, state, history } = commit;
        let version = expected.next();
        if let Some(new) = new {
            if let Some(key) = new.key.clone() {
                self.keys.insert((new.name.clone(), key), saga);
            }
            let snapshot =
                Snapshot { saga, version, new, status, wake_at: None, state: Bytes::new() };
            self.sagas.insert(saga, SagaRow::starts(snapshot, now));
        }
        let row = self.sagas.get_mut(&saga).expect("a commit is of a stored saga: it was checked");
        row.updated_at = now;
        let snapshot = &mut row.snapshot;
        let wake_at = match wake_at {
            WakeAt::Keep => snapshot.wake_at,
            WakeAt::At(time) => Some(time),
            WakeAt::Never => None,
        };
        if wake_at != snapshot.wake_at {
            self.wakes.extend(wake_at.map(|time| (time, saga)));
            if let Some(time) = snapshot.wake_at {
                self.wakes.remove(&(time, saga));
            }
        }
        (snapshot.version, snapshot.status) = (version, status);
        (snapshot.wake_at, snapshot.state) = (wake_at, state);
        if !history.is_empty() {
            row.history.push(HistoryRecord { version, entries: history });
        }
    }

    pub(super) fn remove_sent(&mut self, rows: &[OutboxId]) {
        for &id in rows {
            if let Some(lane) = self.lanes.remove(&id) {
                self.outbox.remove(&(lane, id));
            }
        }
    }

    pub(super) fn load(&self, sagas: &[SagaId]) -> Vec<Snapshot> {
        sagas.iter().filter_map(|saga| Some(self.sagas.get(saga)?.snapshot.clone())).collect()
    }

    pub(super) fn find(
        &self,
        keys: &[(SagaName, IdempotencyKey)],
    ) -> Vec<(SagaName, IdempotencyKey, SagaId)> {
        keys.iter()
            .filter_map(|key| Some((key.0.clone(), key.1.clone(), *self.keys.get(key)?)))
            .collect()
    }

    pub(super) fn due(&self, until: Timestamp, limit: usize) -> Vec<DueSaga> {
        let due = self.wakes.iter().take_while(|(wake_at, _)| *wake_at <= until);
        due.take(limit)
            .map(|&(wake_at, saga)| DueSaga {
                saga,
                home: self.sagas[&saga].snapshot.new.home,
                wake_at,
            })
            .collect()
    }

    pub(super) fn in_use(&self) -> Vec<DefinitionInUse> {
        let mut sagas = BTreeMap::<_, u64>::new();
        for (_, saga) in &self.wakes {
            let Snapshot { new, status, .. } = &self.sagas[saga].snapshot;
            if !status.is_at_rest() {
                let shape = (new.name.clone(), new.definition_version, new.fingerprint);
                *sagas.entry(shape).or_default() += 1;
            }
        }
        let sagas = sagas.into_iter().map(|((saga, version, fingerprint), sagas)| {
            DefinitionInUse { saga, version, fingerprint, sagas }
        });
        sagas.collect()
    }

    pub(super) fn list(
        &self,
        filter: &SagaFilter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Vec<ListedSaga> {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let older = self.sagas.range((Bound::Unbounded, first)).rev().map(|(_, row)| row.listed());
        older.filter(|saga| filter.matches(saga)).take(limit).collect()
    }

    pub(super) fn history(&self, saga: SagaId) -> Vec<HistoryRecord> {
        self.sagas.get(&saga).map(|row| row.history.clone()).unwrap_or_default()
    }

    pub(super) fn unsent(&self, lanes: &[Lane], bytes: usize) -> Vec<OutboxRow> {
        let lanes: BTreeSet<&Lane> = lanes.iter().collect();
        let mut before = 0;
        let has_room = |row: &OutboxRow| {
            let has_room = before < bytes.max(1);
            before += row.body.len();
            has_room
        };
        lanes.into_iter().flat_map(|lane| self.unsent_in(lane)).take_while(has_room).collect()
    }

    fn unsent_in(&self, lane: &Lane) -> impl Iterator<Item = OutboxRow> {
        let first = (lane.clone(), OutboxId(uuid::Uuid::nil()));
        let last = (lane.clone(), OutboxId(uuid::Uuid::max()));
        self.outbox.range(first..=last).map(|((lane, id), body)| OutboxRow {
            id: *id,
            lane: lane.clone(),
            body: body.clone(),
        })
    }

    pub(super) fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn lease(
        &mut self,
        lane: &Lane,
        holder: OutboxId,
        duration: Duration,
        now: Timestamp,
    ) -> bool {
        let held = self.leases.get(lane).filter(|lease| lease.until > now);
        if held.is_some_and(|lease| lease.holder != holder) {
            return false;
        }
        if duration.is_zero() {
            self.leases.remove(lane);
        } else {
            self.leases.insert(lane.clone(), Lease { holder, until: now + duration });
        }
        true
    }

    pub(super) fn recorded(&self, commands: &[MessageId]) -> Remembered {
        let records = commands.iter().filter_map(|&command| {
            Some(InboxRecord { command, reply: self.inbox.get(&command)?.clone() })
        });
        Remembered { records: records.collect(), purged_below: self.purged_below }
    }

    pub(super) fn begin_attempts(&mut self, commands: &[MessageId]) -> Vec<MessageId> {
        let open = commands.iter().filter(|command| !self.inbox.contains_key(command));
        let open: BTreeSet<_> = open.copied().collect();
        for &command in &open {
            *self.attempts.entry(command).or_default() += 1;
        }
        open.into_iter().collect()
    }

    pub(super) fn unfinished(&self, commands: &[MessageId]) -> Vec<(MessageId, u32)> {
        let open = commands.iter().filter(|command| !self.inbox.contains_key(command));
        open.filter_map(|&command| Some((command, *self.attempts.get(&command)?))).collect()
    }

    pub(super) fn end_attempts(&mut self, commands: &[MessageId]) {
        self.attempts.retain(|command, _| !commands.contains(command));
    }

    /// Drops the sagas that ended before a time, among the first `limit` that come after another.
    pub(super) fn purge_sagas(
        &mut self,
        ended_before: Timestamp,
        after: Option<SagaId>,
        limit: usize,
    ) -> PurgedSagas {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let end = SagaId(first_at(ended_before));
        let followers = self.sagas.range((first, Bound::Unbounded));
        let page: Vec<_> =
            followers.map(|(&id, _)| id).take_while(|id| *id < end).take(limit).collect();
        let last = page.last().copied();
        let sagas = page.into_iter().filter(|saga| self.purge_saga(*saga, ended_before)).count();
        PurgedSagas { sagas, last }
    }

    /// Drops a saga if it ended before a time.
    fn purge_saga(&mut self, saga: SagaId, ended_before: Timestamp) -> bool {
        let row = &self.sagas[&saga];
        if !row.snapshot.status.is_final() || row.updated_at > ended_before {
            return false;
        }
        let new = &row.snapshot.new;
        if let Some(key) = &new.key {
            self.keys.remove(&(new.name.clone(), key.clone()));
        }
        self.sagas.remove(&saga).is_some()
    }

    /// Drops the records of up to `limit` commands of sagas that started before a time.
    pub(super) fn purge_inbox(&mut self, started_before: Timestamp, limit: usize) -> usize {
        let below = MessageId(first_at(started_before));
        let below = *self.purged_below.insert(self.purged_below.map_or(below, |it| it.max(below)));
        self.attempts = self.attempts.split_off(&below);
        let page: Vec<_> =
            self.inbox.range(..below).map(|(&command, _)| command).take(limit).collect();
        page.iter().filter(|command| self.inbox.remove(command).is_some()).count()
    }
}

fn refused(reason: &'static str) -> StoreError {
    StoreError::Refused { operation: "commit", source: reason.into() }
}
