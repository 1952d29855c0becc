//! The sagas of a round: brought together, decided on, and parked if their definition fails.

use std::collections::{HashMap, HashSet};

use tracing::{debug, error, trace};

use super::request::Happening;
use super::round::Round;
use super::work::{Broken, Work};
use super::worker::Worker;
use crate::machine::{Event, Verdict};
use crate::store::erased::DynSagaStore;
use crate::store::{HistoryRecord, StoreError, Tick};
use crate::{Error, SagaId, Timestamp};

/// The sagas of a round, in the order that they were met.
#[derive(Default)]
pub(super) struct Works {
    pub(super) all: Vec<Work>,
    index: HashMap<SagaId, usize>,
    pub(super) broken: Vec<(SagaId, Broken)>,
}

/// What came of something that happened to a saga.
pub(super) enum Came {
    Of(Verdict),
    ToNobody,
    ToNothing,
}

impl Worker {
    /// Brings the sagas of a round together, from the cache or else from the store.
    pub(super) async fn load(&mut self, round: &Round) -> Result<Works, StoreError> {
        let happenings = round.happenings.iter().map(|it| it.saga);
        let sagas = happenings.chain(round.local.iter().map(|it| it.saga));
        let mut works = Works::default();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for saga in sagas.filter(|saga| seen.insert(*saga)) {
            match self.cache.take(saga) {
                Some(work) => works.add(work),
                None => missing.push(saga),
            }
        }
        if !missing.is_empty() {
            let now = self.now();
            for snapshot in self.store.load(&missing).await? {
                works.add(Work::load(&self.registry, &snapshot, now));
            }
        }
        Ok(works)
    }

    /// Answers the persons whose actions were made by a commit that seemed to fail.
    pub(super) async fn settle_tried(
        &mut self,
        round: &mut Round,
        works: &mut Works,
    ) -> Result<(), StoreError> {
        let mut made = Vec::new();
        let happenings = round.happenings.iter().enumerate();
        for (place, Happening { saga, tried, .. }) in happenings.filter(|it| it.1.was_tried()) {
            let Some(work) = works.get(*saga) else { continue };
            let can_be_made = |record: &HistoryRecord| record.version <= work.version();
            if tried.iter().any(can_be_made) {
                let history = self.store.history(*saga).await?;
                if tried.iter().any(|record| history.contains(record)) {
                    made.push(place);
                }
            }
        }
        for place in made.into_iter().rev() {
            round.happenings.remove(place).respond(&Came::Of(Verdict::Applied));
        }
        Ok(())
    }

    /// Decides again, on what is stored, where a saga from the cache found nothing to do.
    ///
    /// Another engine may have moved the saga on. A decision that is committed meets the version
    /// check; one that changes nothing is never committed, and a reply must not be lost to an old copy.
    pub(super) async fn doubt(
        &mut self,
        round: &Round,
        works: &mut Works,
        came: &mut [Came],
    ) -> Result<(), StoreError> {
        let happened = round.happenings.iter().zip(came.iter());
        let doubtful = happened.filter(|(_, came)| !matches!(came, Came::Of(Verdict::Applied)));
        let doubtful: HashSet<_> = doubtful
            .map(|(happening, _)| happening.saga)
            .filter(|saga| works.get(*saga).is_some_and(|work| work.is_cached))
            .collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let sagas: Vec<_> = doubtful.iter().copied().collect();
        works.broken.retain(|(saga, _)| !doubtful.contains(saga));
        for snapshot in self.store.load(&sagas).await? {
            if let Some(work) = works.get(snapshot.saga) {
                *work = Work::load(&self.registry, &snapshot, now);
            }
        }
        for (happening, came) in round.happenings.iter().zip(came) {
            if doubtful.contains(&happening.saga) {
                *came = works.happen(happening, now);
            }
        }
        Ok(())
    }

    /// Parks the sagas whose definition failed: what was stored last is what counts.
    pub(super) async fn park_broken(
        &mut self,
        works: &mut Works,
        tick: &mut Tick,
    ) -> Result<(), StoreError> {
        if works.broken.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let broken: HashMap<_, _> = works.broken.drain(..).collect();
        let sagas: Vec<_> = broken.keys().copied().collect();
        tick.commits.retain(|commit| !broken.contains_key(&commit.saga));
        for snapshot in self.store.load(&sagas).await? {
            let Some(Broken(problem)) = broken.get(&snapshot.saga) else { continue };
            error!(saga = %snapshot.saga, problem, "saga parked: its definition fails");
            let mut work = Work::parked(&snapshot, problem.clone(), now);
            if let Ok(commit) = work.commit(now, &*self.store) {
                tick.commits.extend(commit);
            }
            if let Some(place) = works.get(work.saga) {
                *place = work;
            }
        }
        Ok(())
    }
}

impl Works {
    fn add(&mut self, work: Work) {
        self.index.insert(work.saga, self.all.len());
        self.all.push(work);
    }

    pub(super) fn place(&self, saga: SagaId) -> Option<usize> {
        self.index.get(&saga).copied()
    }

    pub(super) fn get(&mut self, saga: SagaId) -> Option<&mut Work> {
        self.place(saga).map(|index| &mut self.all[index])
    }

    pub(super) fn happen(&mut self, happening: &Happening, now: Timestamp) -> Came {
        let Some(work) = self.get(happening.saga) else {
            return Came::ToNobody;
        };
        if happening.seen.is_some_and(|seen| work.has_changed_since(seen)) {
            return Came::Of(Verdict::Refused("it has changed since it was looked at; look again"));
        }
        match work.decide(happening.event.clone(), now) {
            Ok(verdict) => {
                work.cause = happening.message.or(work.cause);
                Came::Of(verdict)
            }
            Err(broken) => {
                self.broken.push((happening.saga, broken));
                Came::ToNothing
            }
        }
    }

    /// Notes what a commit with an unknown end wrote for persons who act; each of several may still be made.
    pub(super) fn note_tried(&self, round: &mut Round, came: &[Came]) {
        for (happening, came) in round.happenings.iter_mut().zip(came) {
            let is_applied = matches!(came, Came::Of(Verdict::Applied));
            if let (Event::Operator(_), true, Some(place)) =
                (&happening.event, is_applied, self.place(happening.saga))
            {
                happening.tried.push(self.all[place].record());
            }
        }
    }

    /// Adds the sagas that changed to a tick, and those that cannot be stored to the broken ones.
    pub(super) fn encode(&mut self, now: Timestamp, store: &dyn DynSagaStore, tick: &mut Tick) {
        for work in &mut self.all {
            match work.commit(now, store) {
                Ok(commit) => tick.commits.extend(commit),
                Err(broken) => self.broken.push((work.saga, broken)),
            }
        }
    }
}

impl Happening {
    const fn was_tried(&self) -> bool {
        !self.tried.is_empty()
    }

    pub(super) fn respond(self, came: &Came) {
        match came {
            Came::Of(Verdict::Ignored(reason)) => {
                trace!(saga = %self.saga, reason = reason.as_str(), "nothing to do");
            }
            Came::ToNobody => debug!(saga = %self.saga, "message for an unknown saga dropped"),
            Came::Of(_) | Came::ToNothing => {}
        }
        let Some(responder) = self.responder else { return };
        let saga = self.saga;
        let _ = responder.send(match came {
            Came::Of(Verdict::Applied | Verdict::Ignored(_)) => Ok(()),
            Came::Of(Verdict::Refused(reason)) => Err(Error::Refused { saga, reason }),
            Came::ToNobody => Err(Error::UnknownSaga { saga }),
            Came::ToNothing => {
                Err(Error::Refused { saga, reason: "its definition fails; it is parked" })
            }
        });
    }
}
