//! Commands whose effect is a call to another system: made first, recorded afterwards.

use super::barrier::{Barrier, Ruling, ids, rounds};
use super::route::{Answer, Route};
use super::service::{Incoming, QUICK_BACKOFF, QUICK_TRIES, Service};
use super::writing::Written;
use super::{Inbox, Participant};
use crate::Error;
use crate::message::Envelope;
use crate::outage::Outage;
use crate::store::StoreError;

impl<S: Inbox> Service<S> {
    /// Calls other systems, each saga's commands one after the other, those of different sagas at once.
    pub(super) async fn handle_externals(&mut self, commands: Vec<Incoming>) -> Result<(), Error> {
        let envelopes: Vec<_> = commands.iter().map(|it| &it.envelope).collect();
        for round in rounds(&envelopes) {
            let round: Vec<_> = round.into_iter().map(|index| &commands[index]).collect();
            self.external_round(&round).await?;
        }
        Ok(())
    }

    async fn external_round(&mut self, round: &[&Incoming]) -> Result<(), Error> {
        let mut outage = Outage::new(&self.stop);
        loop {
            let looked_up = self.look_up(round).await;
            let (mut barrier, rulings) = match looked_up {
                Ok(known) => known,
                Err(error) => {
                    outage.outlast(error).await?;
                    continue;
                }
            };
            let participant = &self.participant;
            let calls = round.iter().zip(rulings).map(|(incoming, ruling)| async move {
                match ruling {
                    Ruling::Answer(recorded) => Ok(recorded),
                    Ruling::CarryOut => Err(call(participant, &incoming.envelope).await),
                }
            });
            let answers = futures_util::future::join_all(calls).await;
            let mut written = Written::default();
            for (incoming, answer) in round.iter().zip(answers) {
                let recorded =
                    answer.unwrap_or_else(|new| barrier.record(incoming.envelope.id, new));
                self.reply(&mut written, incoming, &recorded);
            }
            match self.write(&barrier.into_records(), written).await {
                // Somebody else made the same call meanwhile; what was recorded first stands. The
                // pause keeps a database that conflicts again and again from repeating calls at once.
                Err(Error::Store(error @ StoreError::Conflict)) => outage.outlast(error).await?,
                result => return result,
            }
        }
    }

    async fn look_up(&self, round: &[&Incoming]) -> Result<(Barrier, Vec<Ruling>), StoreError> {
        let envelopes: Vec<_> = round.iter().map(|it| &it.envelope).collect();
        let mut transaction = self.store.begin().await?;
        let recorded = self.store.recorded(&mut transaction, &ids(&envelopes)).await?;
        let mut barrier = Barrier::new(recorded).map_err(|error| StoreError::Refused {
            operation: "reading the inbox",
            source: error.into(),
        })?;
        let rulings = envelopes.iter().map(|it| barrier.rule(it, true)).collect();
        Ok((barrier, rulings))
    }
}

/// Calls another system, a few times at once if it fails.
async fn call<Conn>(participant: &Participant<Conn>, command: &Envelope) -> Answer {
    let Some(Route::External(handler)) = participant.routes.get(&command.message_type) else {
        return Answer::no_handler(&command.message_type);
    };
    let mut tries = 0;
    loop {
        tries += 1;
        match handler.call(command, participant.handler_timeout).await {
            Ok(answer) => return answer,
            Err(failure) if failure.is_terminal || tries >= QUICK_TRIES => {
                return Answer::failed(failure.into_outcome());
            }
            Err(_) => tokio::time::sleep(QUICK_BACKOFF.delay(tries, 0)).await,
        }
    }
}
