//! What happens to the services of a run, and when.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::books::Books;
use crate::dice::Dice;
use crate::services::{SERVICES, Services};

/// Each service is killed once a round, at a random moment of it: long enough for a killed member of a group to be
/// missed (6 s), and for work after that.
pub(crate) const ROUND: Duration = Duration::from_secs(9);
/// How long a service stands still: long enough to be missed as well.
const PAUSE: Duration = Duration::from_secs(8);

/// Something that happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// It is killed, and started again at once.
    Killed,
    /// It stands still, and the others go on.
    Paused,
    /// It goes on, and does not know that it stood still.
    Resumed,
    /// It is asked to stop, and started again.
    Restarted,
}

/// Returns what happens when, to which service: each is killed once a round, then each stands still, then each is
/// restarted as for an upgrade.
pub(crate) fn schedule(rounds: u32, dice: &mut Dice) -> Vec<(Duration, &'static str, Trouble)> {
    let mut all = Vec::new();
    let mut begin = Duration::ZERO;
    let mut in_round =
        |begin: Duration| SERVICES.map(|it| (begin + dice.duration_below(ROUND), it));
    for _ in 0..rounds {
        all.extend(in_round(begin).map(|(at, name)| (at, name, Trouble::Killed)));
        begin += ROUND;
    }
    for (at, name) in in_round(begin) {
        all.extend([(at, name, Trouble::Paused), (at + PAUSE, name, Trouble::Resumed)]);
    }
    begin += ROUND + PAUSE;
    all.extend(in_round(begin).map(|(at, name)| (at, name, Trouble::Restarted)));
    all.sort();
    all
}

/// Makes all of it happen; returns when the last of it did.
pub(crate) async fn make_trouble(
    schedule: &[(Duration, &str, Trouble)],
    services: &mut Services,
    accepted: &AtomicUsize,
    books: &mut Books,
) -> Instant {
    let started = Instant::now();
    for &(at, name, trouble) in schedule {
        sleep_until(started + at).await;
        match trouble {
            Trouble::Killed => services.kill_and_restart(name),
            Trouble::Paused => services.pause(name),
            Trouble::Resumed => services.resume(name),
            Trouble::Restarted => services.stop_and_restart(name).await,
        }
        let (seconds, progress) = (started.elapsed().as_secs(), books.progress(accepted).await);
        println!("e2e: {seconds:>3} s: {name} {trouble:?}; {progress}");
    }
    Instant::now()
}
