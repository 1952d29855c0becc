//! Where records go: home partitions, and who owns which.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::work::Work;
use crate::machine::OutgoingCommand;
use crate::message::{CommandHeaders, Envelope, Kind};
use crate::transport::{Partition, Record};
use crate::{ParticipantName, Timestamp, Topic};

/// What an engine knows of the topics that it sends to and receives from.
#[derive(Default)]
pub(super) struct Routing {
    /// The number of partitions of every topic that commands go to.
    sizes: HashMap<Topic, u32>,
    /// The number of partitions of the topics that replies come from, if they all have the same.
    home_size: Option<u32>,
    owned: BTreeSet<u32>,
    home: Home,
}

/// Whose turn it is to be the home of the sagas that start.
#[derive(Default)]
struct Home {
    turn: usize,
    since: Timestamp,
    /// How many sagas have started since.
    sagas: usize,
}

/// How long it is one partition's turn. What runs at the same time then travels in few batches instead of one
/// for each partition, and a broker takes a request for each.
const TURN: Duration = Duration::from_millis(250);
/// It is another's turn after so many sagas: a burst is for all members of a group.
const TURN_SAGAS: usize = 128;

impl Routing {
    /// Learns the sizes of the topics: those that are received from and those that are sent to.
    pub(super) fn learn(&mut self, inputs: &[u32], outputs: HashMap<Topic, u32>) {
        let size = inputs.first().copied();
        self.home_size = size.filter(|size| inputs.iter().all(|other| other == size));
        self.sizes = outputs;
    }

    /// Takes over partitions; returns the numbers that were not owned before.
    pub(super) fn assign(&mut self, partitions: &[Partition]) -> Vec<u32> {
        let numbers: BTreeSet<_> = partitions.iter().map(|partition| partition.number).collect();
        numbers.into_iter().filter(|&number| self.owned.insert(number)).collect()
    }

    /// Gives partitions up.
    pub(super) fn revoke(&mut self, partitions: &[Partition]) {
        partitions.iter().for_each(|partition| {
            self.owned.remove(&partition.number);
        });
    }

    /// Returns the numbers of the partitions owned.
    pub(super) const fn owned(&self) -> &BTreeSet<u32> {
        &self.owned
    }

    /// Chooses the home of sagas that start now: the owned partitions take turns.
    pub(super) fn home(&mut self, sagas: usize, now: Timestamp) -> u32 {
        let Home { turn, since, sagas: before } = &mut self.home;
        if *before >= TURN_SAGAS || now.since(*since) >= TURN {
            (*turn, *since, *before) = (turn.wrapping_add(1), now, 0);
        }
        *before += sagas;
        match self.owned.len() {
            0 => {
                // Nothing is owned yet; whoever will own the partition goes on with the saga.
                let turn = u32::try_from(*turn % 1024).unwrap_or(0);
                turn % self.home_size.unwrap_or(1)
            }
            owned => self.owned.iter().nth(*turn % owned).copied().unwrap_or(0),
        }
    }

    /// Makes the record that carries a command.
    pub(super) fn record(
        &self,
        source: &ParticipantName,
        work: &Work,
        command: &OutgoingCommand,
        now: Timestamp,
    ) -> Option<Record> {
        let topic = command.participant.commands();
        // Ticks stay together only while every topic on the way has the same partitions.
        let home = self.home_size.filter(|&size| work.home < size).map(|_| work.home);
        let partition = home.filter(|_| self.sizes.get(&topic).copied() == self.home_size);
        Some(Record {
            partition,
            topic,
            key: work.saga.to_string().into(),
            value: envelope(source, work, command, home, now)?.encode(),
            headers: Vec::new(),
        })
    }
}

/// Wraps a command for its participant. `None` if the saga is not at hand, which cannot be after a decision.
pub(super) fn envelope(
    source: &ParticipantName,
    work: &Work,
    command: &OutgoingCommand,
    reply_partition: Option<u32>,
    now: Timestamp,
) -> Option<Envelope> {
    let origin = work.progress()?.origin();
    Some(Envelope {
        id: command.id,
        message_type: command.message_type.clone(),
        source: source.clone(),
        correlation: origin.correlation.clone(),
        causation: work.cause.or(origin.causation),
        traceparent: origin.traceparent.clone(),
        timestamp: now,
        kind: Kind::Command(CommandHeaders {
            saga: work.saga,
            step: command.step.clone(),
            attempt: command.attempt,
            attempts_before: command.attempts_before,
            compensates: command.compensates,
            reply_partition,
        }),
        payload: command.payload.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_together_has_one_home_and_a_burst_has_all() {
        let at = |millis: u64| Timestamp::default() + Duration::from_millis(millis);
        let partition = |number| Partition { topic: Topic::new("shop.events"), number };
        let mut routing = Routing::default();
        routing.assign(&[2, 5, 7].map(partition));
        let first = routing.home(1, at(1_000));
        assert!(routing.owned().contains(&first));
        assert_eq!(routing.home(1, at(1_249)), first, "it is its turn");
        let second = routing.home(1, at(1_250));
        assert_ne!(second, first, "its turn is over");
        let burst: BTreeSet<_> = (0..3).map(|_| routing.home(TURN_SAGAS, at(1_251))).collect();
        assert_eq!(burst, *routing.owned(), "so many sagas are for all");
        routing.revoke(&[2, 5].map(partition));
        assert_eq!(routing.home(1, at(1_252)), 7, "what is not owned is nobody's home");
    }
}
