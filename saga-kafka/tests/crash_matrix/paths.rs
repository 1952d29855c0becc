//! The ways through the contracts on which a process can die.

use std::time::Duration;

use super::points::{Call, Kind, Moment, Point, Scenario, Service, Since};

/// Returns the points: of seven kinds of message eleven each, and eighteen of other ways.
pub(crate) fn points() -> Vec<Point> {
    let mut points = Vec::new();
    for (of, scenario, kind) in [
        ("a fact that starts a saga", Scenario::Told, Kind::Fact),
        ("a successful reply", Scenario::Called, Kind::Success),
        ("a refusal", Scenario::Refused, Kind::Refusal),
        ("the reply to a compensation", Scenario::Refused, Kind::Compensated),
    ] {
        points.extend(engine_path(of, scenario, Since::Received(kind), Call::Receive));
    }
    let redriven = "a redriven letter";
    points.extend(engine_path(redriven, Scenario::Redriven, Since::Redriven, Call::Redriven));
    for (of, scenario, kind) in [
        ("a command", Scenario::Called, Kind::Command),
        ("a compensation", Scenario::Refused, Kind::Compensation),
    ] {
        points.extend(participant_path(of, scenario, Since::Received(kind)));
    }
    points.extend(relay_path());
    points.extend(timer_path());
    points.extend(start_path());
    points.extend(operator_path());
    points
}

fn during(micros: u64) -> Moment {
    Moment::During(Duration::from_micros(micros))
}

/// An engine reads, decides in memory, and writes everything in one call: the six points of a
/// transaction lie in that call, one after the other.
fn engine_path(
    of: &'static str,
    scenario: Scenario,
    since: Since,
    comes_by: Call,
) -> impl Iterator<Item = Point> {
    // A letter is not acknowledged but settled.
    let done = if comes_by == Call::Receive { Call::Acknowledge } else { Call::Settled };
    let sides = [
        ("P0 fetched", comes_by, Moment::After),
        ("P1 decoded", Call::Commit, Moment::Before),
        ("P2 transaction begun", Call::Commit, during(0)),
        ("P3 inbox inserted", Call::Commit, during(100)),
        ("P4 saga loaded", Call::Commit, during(200)),
        ("P5 effect written", Call::Commit, during(400)),
        ("P6 outbox inserted", Call::Commit, during(800)),
        ("P7 before commit", Call::Commit, during(1_500)),
        ("P8 after commit", Call::Commit, Moment::After),
        ("P9 offset stored", done, Moment::After),
        ("P10 offset committed", done, Moment::Later),
    ];
    sides.into_iter().map(move |(name, call, moment)| Point {
        name,
        of,
        scenario,
        service: Service::Engine,
        since,
        call,
        pass: 0,
        moment,
    })
}

fn participant_path(
    of: &'static str,
    scenario: Scenario,
    since: Since,
) -> impl Iterator<Item = Point> {
    let sides = [
        ("P0 fetched", Call::Receive, Moment::After),
        ("P1 decoded", Call::Begin, Moment::Before),
        ("P2 transaction begun", Call::Begin, Moment::After),
        ("P3 inbox asked", Call::Recorded, Moment::After),
        ("P4 ruled", Call::Handle, Moment::Before),
        ("P5 effect written", Call::Handled, Moment::Before),
        ("P6 outbox inserted", Call::Commit, during(0)),
        ("P7 before commit", Call::Commit, during(500)),
        ("P8 after commit", Call::Commit, Moment::After),
        ("P9 offset stored", Call::Acknowledge, Moment::After),
        ("P10 offset committed", Call::Acknowledge, Moment::Later),
    ];
    sides.into_iter().map(move |(name, call, moment)| Point {
        name,
        of,
        scenario,
        service: Service::Participant,
        since,
        call,
        pass: 0,
        moment,
    })
}

fn relay_path() -> impl Iterator<Item = Point> {
    let sides = [
        ("R0 claimed", Call::Unsent, Moment::After),
        ("R1 produced", Call::Publish, Moment::After),
        ("R2 acknowledged", Call::Receipt, Moment::After),
        ("R3 before it is deleted", Call::Sent, Moment::Before),
        ("R4 deleted", Call::Sent, Moment::After),
    ];
    sides.into_iter().map(|(name, call, moment)| Point {
        name,
        of: "an outbox row",
        scenario: Scenario::Told,
        service: Service::Relay,
        since: Since::Begin,
        call,
        pass: 0,
        moment,
    })
}

/// What an engine and a participant publish by themselves, besides.
pub(crate) fn publishing() -> impl Iterator<Item = Point> {
    let sides = [
        ("R1 before it is produced", Call::Publish, Moment::Before),
        ("R1 produced", Call::Publish, Moment::After),
        ("R2 acknowledged", Call::Receipt, Moment::After),
    ];
    let services = [("a command", Service::Engine), ("a reply", Service::Participant)];
    services.into_iter().flat_map(move |(of, service)| {
        sides.into_iter().map(move |(name, call, moment)| Point {
            name,
            of,
            scenario: Scenario::Called,
            service,
            since: Since::Begin,
            call,
            pass: 0,
            moment,
        })
    })
}

/// A step that the engine carries out by itself: what it writes and what follows from it are one transaction.
pub(crate) fn local() -> impl Iterator<Item = Point> {
    let (engine, handler) = (Service::Engine, Service::Participant);
    let sides = [
        ("L0 transaction begun", engine, Call::Begin, Moment::After),
        ("L1 before the effect", handler, Call::Handle, Moment::Before),
        ("L2 effect written", handler, Call::Handled, Moment::Before),
        ("L3 before commit", engine, Call::CommitWith, Moment::Before),
        ("L4 in the commit", engine, Call::CommitWith, during(300)),
        ("L5 after commit", engine, Call::CommitWith, Moment::After),
    ];
    // So many transactions, effects and commits pass before. The second step fails at first, which takes the first one
    // back twice; it succeeds in the second commit. What is refused is undone in the first.
    let ways = [
        ("a local step", Scenario::Local, [4, 3, 1]),
        ("a local compensation", Scenario::LocalRefused, [0, 2, 0]),
    ];
    ways.into_iter().flat_map(move |(of, scenario, [transactions, effects, commits])| {
        sides.into_iter().map(move |(name, service, call, moment)| Point {
            name,
            of,
            scenario,
            service,
            since: Since::Begin,
            call,
            pass: match call {
                Call::Begin => transactions,
                Call::CommitWith => commits,
                _ => effects,
            },
            moment,
        })
    })
}

/// Where a process dies, or stands still, while something else goes wrong besides.
pub(crate) fn adverse() -> impl Iterator<Item = Point> {
    let (before, after) = (Moment::Before, Moment::After);
    let rest = ("P1 decoded, at rest", Call::Begin, Moment::Still);
    let rest_of_engine = ("P1 decoded, at rest", Call::Commit, Moment::Still);
    let asked = ("P3 inbox asked", Call::Recorded, after);
    let decoded = ("P1 decoded", Call::Commit, before);
    let committed = ("P8 after commit", Call::Commit, after);
    let of_participant = [
        ("a command", Scenario::Called, Kind::Command, vec![rest]),
        ("an overtaken command", Scenario::Overtaken, Kind::Compensation, vec![asked, committed]),
    ];
    let of_engine = [
        ("a successful reply", Scenario::Called, Kind::Success, vec![rest_of_engine]),
        ("a late reply", Scenario::LateReply, Kind::Compensated, vec![decoded, committed]),
        ("a second reply", Scenario::AskedAgain, Kind::Success, vec![decoded, committed]),
        ("a zombie's reply", Scenario::Doubled, Kind::Success, vec![decoded, committed]),
    ];
    let of_participant = of_participant.into_iter().map(|it| (Service::Participant, it));
    let of_engine = of_engine.into_iter().map(|it| (Service::Engine, it));
    of_participant.chain(of_engine).flat_map(|(service, (of, scenario, kind, sides))| {
        sides.into_iter().map(move |(name, call, moment)| Point {
            name,
            of,
            scenario,
            service,
            since: Since::Received(kind),
            call,
            pass: 0,
            moment,
        })
    })
}

/// The commit after the one that sets the timer is the timer's.
fn timer_path() -> impl Iterator<Item = Point> {
    let sides = [
        ("T0 set", 0, Moment::After),
        ("T1 due", 1, Moment::Before),
        ("T2 applied", 1, during(300)),
        ("T3 committed", 1, Moment::After),
    ];
    sides.into_iter().map(|(name, pass, moment)| Point {
        name,
        of: "a timer",
        scenario: Scenario::Retried,
        service: Service::Engine,
        since: Since::Received(Kind::Failure),
        call: Call::Commit,
        pass,
        moment,
    })
}

fn start_path() -> impl Iterator<Item = Point> {
    let sides = [
        ("H0 asked", Call::Start, Moment::Before),
        ("H1 before the row", Call::Commit, Moment::Before),
        ("H2 row and outbox", Call::Commit, during(300)),
        ("H3 committed", Call::Commit, Moment::After),
        ("H4 before the answer", Call::Start, Moment::After),
    ];
    sides.into_iter().map(|(name, call, moment)| Point {
        name,
        of: "a start",
        scenario: Scenario::Called,
        service: Service::Engine,
        since: Since::Asked,
        call,
        pass: 0,
        moment,
    })
}

fn operator_path() -> impl Iterator<Item = Point> {
    let sides = [
        ("O0 asked", Call::Operate, Moment::Before),
        ("O1 in the transaction", Call::Commit, during(300)),
        ("O2 committed", Call::Commit, Moment::After),
        ("O3 before the answer", Call::Operate, Moment::After),
    ];
    sides.into_iter().map(|(name, call, moment)| Point {
        name,
        of: "an operator's action",
        scenario: Scenario::Parked,
        service: Service::Engine,
        since: Since::Asked,
        call,
        pass: 0,
        moment,
    })
}
