//! A helper: a further thread for a large look.
//!
//! A small look starts no helper. A helper inherits the priority, the rights and the blocked
//! signals of the caller's thread. It ends before the caller's call returns. If the system has no
//! room for a helper, the look goes on without one.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use rustix::thread::sched_getaffinity;

/// The most threads of one look, including the caller's own.
const MOST_THREADS: usize = 4;

/// In bytes. It is small because a program that locks its memory locks each stack, too.
const STACK: usize = 256 << 10;

/// The number of threads that a large look may use, including the caller's own.
///
/// It is that of the processors on which the caller may run. std's `available_parallelism` would
/// read files of cgroups, too, which a confined consumer may not.
pub(crate) fn threads() -> usize {
    let processors = sched_getaffinity(None).map_or(1, |set| set.count() as usize);
    processors.clamp(1, MOST_THREADS)
}

/// Starts a helper. `None` if the system has no room for a thread.
pub(crate) fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    start_with(STACK, scope, work)
}

fn start_with<'scope, T: Send + 'scope>(
    stack: usize,
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    let thread = Builder::new().name("modstamp".to_owned()).stack_size(stack);
    thread.spawn_scoped(scope, work).ok()
}

/// Waits for the end of a helper.
pub(crate) fn end<T>(helper: ScopedJoinHandle<'_, T>) -> T {
    helper.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Does each job once, in any order, by at most `threads` threads.
pub(crate) fn share<J: Send>(
    threads: usize,
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J) + Sync,
) {
    if threads < 2 {
        return jobs.for_each(work); // A scope makes std remember the caller's thread.
    }
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).for_each(&work);
    scope(|scope| {
        let helpers: Vec<_> = (1..threads).filter_map(|_| start(scope, work)).collect();
        work();
        helpers.into_iter().for_each(end);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn without_room_for_a_thread_there_is_no_helper_and_no_panic() {
        scope(|scope| assert!(start_with(usize::MAX >> 4, scope, || ()).is_none()));
    }

    #[test]
    fn each_job_is_done_once_by_however_many_threads() {
        for threads in 1..=MOST_THREADS {
            let done: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            share(threads, done.iter(), |job| {
                job.fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
        }
    }
}
