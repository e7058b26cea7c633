//! The buffers that threads share for reads which cannot go straight to their places. The last one
//! given back is the next one lent, so memory is touched for as many as are in use at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use loader::AlignedBuf;

#[derive(Debug)]
pub struct Pool {
    buffers: Vec<Mutex<AlignedBuf>>,
    /// Indices of those that nobody has.
    free: Mutex<Vec<usize>>,
    given_back: Condvar,
}

/// One buffer's index, which goes back whatever becomes of the work.
struct Turn<'a> {
    pool: &'a Pool,
    index: usize,
}

impl Pool {
    pub fn new(count: usize, bytes: usize) -> Self {
        Self {
            buffers: (0..count)
                .map(|_| Mutex::new(AlignedBuf::new(bytes)))
                .collect(),
            free: Mutex::new((0..count).rev().collect()),
            given_back: Condvar::new(),
        }
    }

    /// Lends one, as soon as there is one.
    pub fn lend<R>(&self, work: impl FnOnce(&mut AlignedBuf) -> R) -> R {
        let free = self
            .given_back
            .wait_while(self.free(), |free| free.is_empty());
        let Some(index) = free.unwrap_or_else(PoisonError::into_inner).pop() else {
            unreachable!("it was waited for until there is one");
        };
        let turn = Turn { pool: self, index };
        // Nobody else has it: this does not wait.
        let buffer = self.buffers[turn.index].lock();
        work(&mut buffer.unwrap_or_else(PoisonError::into_inner))
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        // Indices, valid after every statement: poison means nothing here.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pool.free().push(self.index);
        self.pool.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_buffer_is_one_threads_at_a_time_and_comes_back_after_a_panic() {
        let pool = Pool::new(2, 100);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..6u8 {
                let (pool, now, most) = (&pool, &now, &most);
                scope.spawn(move || {
                    for turn in 0..200 {
                        let lent = catch_unwind(AssertUnwindSafe(|| {
                            pool.lend(|buffer| {
                                most.fetch_max(
                                    1 + now.fetch_add(1, Ordering::SeqCst),
                                    Ordering::SeqCst,
                                );
                                buffer.as_mut_slice().fill(thread);
                                thread::yield_now();
                                let mine = buffer.as_slice().iter().all(|&byte| byte == thread);
                                now.fetch_sub(1, Ordering::SeqCst);
                                assert!(turn % 50 != 7, "on purpose");
                                mine
                            })
                        }));
                        assert!(lent.unwrap_or(true));
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 2);
        assert_eq!(pool.free().len(), 2);
    }

    #[test]
    fn the_last_one_given_back_is_the_next_one_lent() {
        let pool = Pool::new(3, 1);
        let address = |buffer: &mut AlignedBuf| buffer.as_slice().as_ptr() as usize;
        let first = pool.lend(address);
        assert_eq!(pool.lend(address), first);
    }
}
