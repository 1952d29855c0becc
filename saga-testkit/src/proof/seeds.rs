//! Plans that a seed decides, and the smallest plan that still shows a flaw.

use std::time::Duration;

use saga_core::StepName;

use super::MOMENTS;
use super::dice::Dice;
use super::plan::{Deed, Fault, Plan, Service};
use super::play::{Flaw, play};
use super::scene::Sent;
use super::subject::Subject;
use super::trouble::{Side, Trouble, TroubleKind};
use crate::Operation;

/// Makes the plan of a seed for a saga that sends these commands if nothing goes wrong.
pub(super) fn plan(seed: u64, smooth: &[Sent]) -> Plan {
    let mut dice = Dice::new(seed);
    let mut troubles = Vec::new();
    for step in smooth.iter().map(|sent| &sent.step) {
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
    let commands = u64::try_from(smooth.len()).expect("fits");
    let cancel_after =
        dice.one_in(5).then(|| usize::try_from(1 + dice.below(commands)).expect("fits"));
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
