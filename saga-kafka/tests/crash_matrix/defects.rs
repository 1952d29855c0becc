//! What is done wrong on purpose is seen where a process dies, and by what should see it.

use saga_testkit::Defect;

use super::points::{Fault, cases};
use super::{Played, play, told_of};

/// The name of a defect, the invariant that it breaks, and the point at which that shows.
const DEFECTS: [(&str, &str, &str, &str); 12] = [
    ("NoInbox", "I4", "P8 after commit", "a command"),
    ("AcknowledgedFirst", "I6", "P1 decoded, at rest", "a command"),
    ("OutboxOutside", "I13", "P8 after commit", "a command"),
    ("SentBeforeAcknowledged", "I5", "R4 deleted", "an outbox row"),
    ("ReadsAfterTheLast", "I5", "R0 claimed", "an outbox row"),
    ("NoBarrier", "I9", "P8 after commit", "an overtaken command"),
    ("LateReplyCounts", "I2", "P1 decoded", "a late reply"),
    ("NoVersionCheck", "I10", "P1 decoded", "a zombie's reply"),
    ("NoOrder", "I7", "R4 deleted", "an outbox row"),
    ("BeginsAtTheEnd", "I5", "R4 deleted", "an outbox row"),
    ("CompensatesForward", "I8", "P8 after commit", "a compensation"),
    ("IdPerAttempt", "I4", "P1 decoded", "a second reply"),
];

/// How often a defect is played that does not show: what comes too late is a matter of time.
const PLAYS: usize = 3;

/// I2, I4, I5, I6, I7, I8, I9, I10, I13: the matrix sees when they do not hold.
#[test]
fn each_planted_defect_is_seen_where_a_process_dies() {
    let of = |planted: usize| {
        let name = format!("{:?}", Defect::ALL[planted]);
        let known = DEFECTS.into_iter().find(|(it, ..)| *it == name);
        known.unwrap_or_else(|| panic!("nobody says where {name} shows"))
    };
    let job = |planted: usize| {
        let (_, _, name, about) = of(planted);
        let is_it = |fault| matches!(fault, Fault::Kill | Fault::StandsStill);
        let case = cases()
            .into_iter()
            .find(|case| case.point.name == name && case.point.of == about && is_it(case.fault));
        (case.expect("it is a point of the matrix"), Some(planted))
    };
    let all = Defect::ALL.len();
    let mut unseen: Vec<_> = (0..all).map(|planted| (planted, String::new())).collect();
    for _ in 0..PLAYS {
        let jobs = unseen.drain(..).map(|(planted, _)| job(planted)).collect();
        for Played { case, planted, outcome } in play(jobs) {
            let planted = planted.expect("a defect");
            let (name, invariant, ..) = of(planted);
            let says_so = |line: &&str| {
                line.split(|it: char| !it.is_alphanumeric()).any(|word| word == invariant)
            };
            let flaw = outcome.flaws.iter().flat_map(|flaw| flaw.lines()).find(says_so);
            if let Some(flaw) = flaw {
                println!("{invariant:4} {name}: {flaw}");
            } else {
                let told = format!("{name}, {invariant}: {}", told_of(&case, &outcome));
                unseen.push((planted, told));
            }
        }
    }
    println!("crash matrix: {} defects of {all} seen", all - unseen.len());
    let unseen: Vec<_> = unseen.into_iter().map(|(_, told)| told).collect();
    assert!(unseen.is_empty(), "not seen as what they are:\n{}", unseen.join("\n"));
}
