//! An outbox that transactions write to in any order, and relays that publish it.
//!
//! All of it is described here. A row's position is drawn when its transaction begins, so that a lower one
//! may appear after a higher one; the transactions of one key follow each other. Two relays read what is there, publish
//! in the order of positions, and delete what the broker has acknowledged. Each may stand still for any time or
//! crash between any two steps; a record may be refused, which ends a publisher, or appended and reported as lost.

use stateright::{Model, Property};

/// Two keys take turns: rows 0, 2, 4 are of one, rows 1 and 3 of the other.
const ROWS: usize = 5;
const RELAYS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Rows are deleted as soon as they are published.
    DeletedFirst,
    /// A relay only looks for positions after the last that it has read.
    AfterTheLast,
    /// Rows of one key are published in any order.
    NoOrder,
}

struct Outbox {
    rows: usize,
    defect: Option<Defect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Relay {
    /// Rows that it has read and not deleted; of those it has published, and the broker acknowledged.
    read: u8,
    published: u8,
    acknowledged: u8,
    /// The highest position that it has read, if it keeps that in mind.
    last: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// The position of each row, from 1; 0 before its transaction begins.
    positions: Vec<u8>,
    committed: u8,
    deleted: u8,
    /// Rows that are on the topic.
    appeared: u8,
    relays: [Relay; RELAYS],
    has_overtaken: bool,
    has_doubled: bool,
    has_come_late: bool,
}

/// How a record is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Taken {
    Appended,
    Refused,
    AppendedAndReportedLost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Begin(usize),
    Commit(usize),
    Read(usize),
    Publish(usize, usize, Taken),
    Acknowledge(usize),
    Delete(usize),
    Crash(usize),
}

impl Outbox {
    fn new(defect: Option<Defect>) -> Self {
        Self { rows: ROWS + usize::from(super::size()), defect }
    }

    /// Returns the rows of a set in the order of their positions.
    fn in_order(state: &State, set: u8) -> Vec<usize> {
        let mut rows: Vec<_> =
            (0..state.positions.len()).filter(|row| set & (1 << row) != 0).collect();
        rows.sort_by_key(|row| state.positions[*row]);
        rows
    }

    /// Returns what a relay may publish next.
    fn next(&self, state: &State, relay: Relay) -> Vec<usize> {
        let mut open = Self::in_order(state, relay.read & !relay.published);
        if self.defect != Some(Defect::NoOrder) {
            open.truncate(1);
        }
        open
    }

    fn read(&self, state: &mut State, at: usize) {
        let relay = state.relays[at];
        let mut found = state.committed & !state.deleted;
        if self.defect == Some(Defect::AfterTheLast) {
            let is_after = |row: &usize| state.positions[*row] > relay.last;
            let rows = Self::in_order(state, found).into_iter().filter(is_after);
            found = rows.map(|row| 1 << row).sum();
            let last = Self::in_order(state, found).last().map(|row| state.positions[*row]);
            state.relays[at].last = last.unwrap_or(relay.last);
        }
        state.relays[at].read = found;
    }

    fn append(state: &mut State, row: usize) {
        // Those of its key that were committed before.
        let before: u8 = (0..row).filter(|other| other % 2 == row % 2).map(|it| 1 << it).sum();
        state.has_doubled |= state.appeared & (1 << row) != 0;
        state.has_overtaken |= before & !state.appeared != 0;
        state.appeared |= 1 << row;
    }
}

impl Model for Outbox {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            positions: vec![0; self.rows],
            committed: 0,
            deleted: 0,
            appeared: 0,
            relays: [Relay::default(); RELAYS],
            has_overtaken: false,
            has_doubled: false,
            has_come_late: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (row, position) in state.positions.iter().enumerate() {
            let is_first = row < 2 || state.committed & (1 << (row - 2)) != 0;
            if *position == 0 && is_first {
                actions.push(Action::Begin(row));
            }
            if *position != 0 && state.committed & (1 << row) == 0 {
                actions.push(Action::Commit(row));
            }
        }
        for (at, relay) in state.relays.iter().enumerate() {
            if relay.read == 0 {
                actions.push(Action::Read(at));
            }
            for row in self.next(state, *relay) {
                let ways = [Taken::Appended, Taken::Refused, Taken::AppendedAndReportedLost];
                actions.extend(ways.map(|taken| Action::Publish(at, row, taken)));
            }
            if relay.published & !relay.acknowledged != 0 {
                actions.push(Action::Acknowledge(at));
            }
            actions.extend([Action::Delete(at), Action::Crash(at)]);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Begin(row) => {
                next.positions[row] = 1 + state.positions.iter().max().expect("there are rows");
            }
            Action::Commit(row) => {
                next.committed |= 1 << row;
                let is_lower = |it: &usize| state.positions[*it] > state.positions[row];
                next.has_come_late |= Self::in_order(state, state.committed).iter().any(is_lower);
            }
            Action::Read(at) => self.read(&mut next, at),
            Action::Publish(at, row, taken) => {
                if taken != Taken::Refused {
                    Self::append(&mut next, row);
                }
                if taken == Taken::Appended {
                    next.relays[at].published |= 1 << row;
                } else {
                    // The publisher has failed: all is read again.
                    let last = next.relays[at].last;
                    next.relays[at] = Relay { last, ..Relay::default() };
                }
            }
            Action::Acknowledge(at) => {
                let relay = state.relays[at];
                let row = *Self::in_order(state, relay.published & !relay.acknowledged).first()?;
                next.relays[at].acknowledged |= 1 << row;
            }
            Action::Delete(at) => {
                let relay = &mut next.relays[at];
                let done = match self.defect {
                    Some(Defect::DeletedFirst) => relay.read,
                    _ => relay.acknowledged,
                };
                relay.read &= !done;
                relay.published &= !done;
                relay.acknowledged &= !done;
                next.deleted |= done;
            }
            Action::Crash(at) => next.relays[at] = Relay::default(),
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I6, |_, state: &State| state.deleted & !state.appeared == 0),
            Property::always(I7, |_, state: &State| !state.has_overtaken),
            Property::always(I13, |_, state: &State| state.appeared & !state.committed == 0),
            Property::always(I5, |model: &Self, state: &State| model.can_find_all(state)),
            Property::sometimes("a row is sent twice", |_, state: &State| state.has_doubled),
            Property::sometimes("a lower position comes late", |_, state: &State| {
                state.has_come_late
            }),
            Property::sometimes("all is sent and deleted", |model: &Self, state: &State| {
                state.deleted.count_ones() as usize == model.rows
            }),
        ]
    }
}

const I5: &str = "I5: no row is skipped";
const I6: &str = "I6: deleted after it is acknowledged";
const I7: &str = "I7: in the order of the commits of a key";
const I13: &str = "I13: nothing that was not committed";

impl Outbox {
    /// Returns true if each relay has every row that is not on the topic, or finds it when it reads again.
    fn can_find_all(&self, state: &State) -> bool {
        let open = state.committed & !state.appeared;
        (0..RELAYS).all(|at| {
            let mut reads = state.clone();
            self.read(&mut reads, at);
            open & !(state.relays[at].read | reads.relays[at].read) == 0
        })
    }
}

/// F48, I5, I6, I7, I13.
#[test]
fn relays_that_crash_and_stand_still_lose_nothing_and_keep_the_order_of_a_key() {
    super::holds(Outbox::new(None));
}

#[test]
fn i6_a_relay_that_deletes_first_is_seen() {
    super::breaks(Outbox::new(Some(Defect::DeletedFirst)), I6);
}

#[test]
fn i5_a_relay_that_reads_after_the_last_position_is_seen() {
    super::breaks(Outbox::new(Some(Defect::AfterTheLast)), I5);
}

#[test]
fn i7_a_relay_that_keeps_no_order_is_seen() {
    super::breaks(Outbox::new(Some(Defect::NoOrder)), I7);
}
