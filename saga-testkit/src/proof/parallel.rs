//! Work that is spread over the processors and comes back in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Maps items in any order, and returns the outputs in theirs. After the first error no item that
/// stands behind it is begun.
pub(super) fn map<T: Sync, U: Send, E: Send>(
    items: &[T],
    map: impl Fn(&T) -> Result<U, E> + Sync,
) -> Vec<Result<U, E>> {
    let (next, end) = (AtomicUsize::new(0), AtomicUsize::new(items.len()));
    let outputs = Mutex::new(Vec::with_capacity(items.len()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end.load(Ordering::Relaxed) {
                return;
            }
            let output = map(&items[number]);
            if output.is_err() {
                end.fetch_min(number, Ordering::Relaxed);
            }
            outputs.lock().expect("no output panics").push((number, output));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut outputs = outputs.into_inner().expect("no output panics");
    outputs.sort_by_key(|(number, _)| *number);
    outputs.into_iter().map(|(_, output)| output).collect()
}
