//! How sagas start: decided in memory, once per key, and answered when they are durable.

use std::collections::HashMap;

use tracing::error;

use super::local::Effects;
use super::request::{Accepted, Requester, Start};
use super::tick::Setback;
use super::work::{Broken, Work};
use super::worker::Worker;
use crate::machine::{Event, Progress};
use crate::outage::Outage;
use crate::store::{NewSaga, StoreError, Tick};
use crate::{Error, SagaId};

/// A saga that was decided to start and is not committed yet.
pub(super) struct Starting {
    pub(super) work: Work,
    pub(super) requesters: Vec<Requester>,
}

impl Worker {
    /// Decides the start of new sagas. Starts under one key are one start.
    pub(super) fn begin(&mut self, starts: Vec<Start>) -> Vec<Starting> {
        let now = self.now();
        let home = self.routing.home(starts.len(), now);
        let mut starting: Vec<Starting> = Vec::with_capacity(starts.len());
        let mut by_key = HashMap::new();
        for start in starts {
            let Start { saga, definition, key, origin, data, requester } = start;
            let name = definition.name().clone();
            if let Some(key) = &key {
                let index = *by_key.entry((name.clone(), key.clone())).or_insert(starting.len());
                if let Some(first) = starting.get_mut(index) {
                    first.requesters.push(requester);
                    continue;
                }
            }
            let new = NewSaga {
                name,
                definition_version: definition.version(),
                fingerprint: definition.fingerprint(),
                key,
                home,
            };
            let cause = origin.causation;
            let progress = Progress::start_erased(&definition, saga, origin, data);
            let mut work = Work::start(definition, progress, new, cause);
            let decided = work.decide(Event::Started, now);
            let start = Starting { work, requesters: vec![requester] };
            match decided {
                Ok(_) => starting.push(start),
                Err(Broken(problem)) => {
                    by_key.retain(|_, index| *index != starting.len());
                    self.refuse(start, &problem);
                }
            }
        }
        starting
    }

    /// Adds the new sagas of a round to its tick. What cannot be stored is not started.
    ///
    /// Fails if one cannot be stored that has gone on.
    pub(super) fn encode_starts(
        &mut self,
        starting: &mut Vec<Starting>,
        effects: &Effects<'_>,
        tick: &mut Tick,
    ) -> Result<(), Setback> {
        let now = self.now();
        let mut refused = Vec::new();
        for (index, start) in starting.iter_mut().enumerate() {
            match start.work.commit(now, &*self.store) {
                Ok(Some(commit)) => tick.commits.push(commit),
                Ok(None) => refused.push((index, "its data cannot be read back".to_owned())),
                Err(Broken(problem)) => match effects.answered(start.work.saga) {
                    Some(attempt) => return Err(Setback::Untaken(vec![(attempt, problem)])),
                    None => refused.push((index, problem)),
                },
            }
        }
        for (index, problem) in refused.into_iter().rev() {
            let start = starting.remove(index);
            self.refuse(start, &problem);
        }
        // Those behind a fact that was refused just now may have gone on in this transaction.
        let mut requesters = starting.iter().flat_map(|it| &it.requesters);
        if requesters.any(|it| it.waits(&self.held)) {
            return Err(Setback::Waiting);
        }
        Ok(())
    }

    /// Lets the facts wait that are behind what was set aside of their key.
    pub(super) fn let_wait(&mut self, starting: &mut Vec<Starting>) {
        for start in &mut *starting {
            let waiting = start.requesters.extract_if(.., |it| it.waits(&self.held));
            for requester in waiting.collect::<Vec<_>>() {
                if let Requester::Fact { delivery, .. } = requester {
                    self.wait_behind(*delivery);
                }
            }
        }
        starting.retain(|start| !start.requesters.is_empty());
    }

    /// Answers the starts whose saga exists: started under the same key before, or by a commit that seemed to fail.
    pub(super) async fn settle_started(
        &mut self,
        starting: &mut Vec<Starting>,
    ) -> Result<(), Error> {
        if starting.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = starting.iter().map(|it| it.work.saga).collect();
        let keys: Vec<_> = starting.iter().filter_map(|it| it.work.key()).collect();
        let ask = || async {
            let found = if keys.is_empty() { Vec::new() } else { self.store.find(&keys).await? };
            Ok::<_, StoreError>((self.store.load(&ids).await?, found))
        };
        let (written, found) = Outage::outlasted(&self.stop, ask).await?;
        let written: HashMap<_, _> = written.into_iter().map(|it| (it.saga, it)).collect();
        let found: HashMap<_, _> =
            found.into_iter().map(|(name, key, saga)| ((name, key), saga)).collect();
        let mut open = Vec::new();
        for mut start in starting.drain(..) {
            let saga = start.work.saga;
            let known = start.work.key().and_then(|key| found.get(&key).copied());
            match (written.get(&saga), known) {
                (Some(snapshot), _) => {
                    start.accept(saga, true);
                    // It may have been committed with steps that were carried out.
                    let work = Work::load(&self.registry, snapshot, self.now());
                    self.keep(work, true);
                }
                (None, Some(saga)) => start.accept(saga, false),
                (None, None) => open.push(start),
            }
        }
        *starting = open;
        Ok(())
    }

    /// Says that a saga does not start: to its callers as an error, of its facts by setting them aside.
    pub(super) fn refuse(&mut self, start: Starting, problem: &str) {
        let saga = start.work.saga;
        error!(%saga, problem, "saga cannot start");
        for requester in start.requesters {
            match requester {
                Requester::Caller(caller) => {
                    let reason = "its data or its first command cannot be made or stored";
                    let _ = caller.send(Err(Error::Refused { saga, reason }));
                }
                Requester::Fact { delivery, .. } => {
                    let letter = self.dead_letter(*delivery, "unstartable", problem, 1);
                    self.unstartable.push(letter);
                }
            }
        }
    }
}

impl Starting {
    /// Tells whoever asked that the saga is durable; only the first can be the one that started it.
    pub(super) fn accept(&mut self, saga: SagaId, mut is_new: bool) {
        for requester in self.requesters.drain(..) {
            if let Requester::Caller(caller) = requester {
                // A caller that has gone away is no error: the saga is durable.
                let _ = caller.send(Ok(Accepted { saga, is_new }));
            }
            is_new = false;
        }
    }
}
