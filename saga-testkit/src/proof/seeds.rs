//! Plans that a seed decides, and the smallest plan that still shows a flaw.

use std::time::Duration;

use saga_core::StepName;

use super::MOMENTS;
use super::dice::Dice;
use super::plan::{Deed, Fault, Plan, Service};
use super::play::{Flaw, Run, play};
use super::subject::Subject;
use super::trouble::{Side, Trouble, TroubleKind};
use crate::Operation;

/// Makes the plan of a seed for a saga that goes like this if nothing goes wrong.
pub(super) fn plan(seed: u64, smooth: &Run) -> Plan {
    let mut dice = Dice::new(seed);
    let mut troubles = Vec::new();
    for step in smooth.sent.iter().map(|sent| &sent.step) {
        if dice.one_in(4) {
            troubles.push(trouble(step, Side::Action, &TroubleKind::OF_ACTIONS, &mut dice));
        }
        if dice.one_in(4) {
            troubles.push(trouble(
                step,
                Side::Compensation,
                &TroubleKind::OF_COMPENSATIONS,
                &mut dice,
            ));
        }
    }
    // What goes wrong takes more commits.
    let commits = 2 * u64::try_from(smooth.commits).expect("fits");
    let cancel_after =
        dice.one_in(5).then(|| usize::try_from(1 + dice.below(commits)).expect("fits"));
    let faults = (0..dice.below(5)).map(|_| fault(&mut dice)).collect();
    let has_spare = dice.one_in(2);
    let noise = dice.one_in(2).then(|| dice.next());
    Plan { troubles, cancel_after, faults, has_spare, noise, defect: None }
}

fn trouble(step: &StepName, side: Side, kinds: &[TroubleKind], dice: &mut Dice) -> Trouble {
    Trouble { step: step.clone(), side, kind: dice.pick(kinds) }
}

fn fault(dice: &mut Dice) -> Fault {
    let services =
        [Service::Orchestrator, Service::Orchestrator, Service::Spare, Service::Participants];
    let operations = [
        Operation::Write,
        Operation::Write,
        Operation::Publish,
        Operation::Acknowledge,
        Operation::Receive,
    ];
    let deeds = [
        Deed::Crash,
        Deed::Crash,
        Deed::Fail,
        Deed::Pause(Duration::from_millis(dice.below(500))),
        Deed::Pause(Duration::from_secs(dice.below(90))),
    ];
    Fault {
        service: dice.pick(&services),
        life: usize::try_from(dice.below(2)).expect("fits"),
        operation: dice.pick(&operations),
        nth: 1 + dice.below(12),
        moment: dice.pick(&MOMENTS),
        deed: dice.pick(&deeds),
    }
}

/// Leaves out of a plan what is not needed for a flaw.
pub(super) fn smallest<P: Subject>(subject: &P, plan: Plan, flaw: Flaw) -> (Plan, Flaw) {
    let (mut plan, mut flaw) = (plan, flaw);
    loop {
        let smaller = plan.smaller().into_iter();
        let mut flaws = smaller.filter_map(|it| play(subject, &it).err().map(|flaw| (it, flaw)));
        let Some(found) = flaws.next() else { return (plan, flaw) };
        drop(flaws);
        (plan, flaw) = found;
    }
}
