// SPDX-License-Identifier: GPL-2.0

//! Divides the machine's processors among virtual machines that run at once.

use std::fs;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

/// A number of processors that virtual machines take from, and give back when they end.
pub struct Slots {
    all: usize,
    free: Mutex<usize>,
    given_back: Condvar,
}

/// Processors that were taken. Dropping this gives them back.
pub struct Taken<'a> {
    slots: &'a Slots,
    count: usize,
}

impl Slots {
    /// `all` processors, but one at least.
    pub fn new(all: usize) -> Self {
        let all = all.max(1);
        Self {
            all,
            free: Mutex::new(all),
            given_back: Condvar::new(),
        }
    }

    /// Takes `count` processors, or all if there are fewer, and waits until they are free.
    pub fn take(&self, count: usize) -> Taken<'_> {
        let count = count.min(self.all);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .given_back
            .wait_while(free, |free| *free < count)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Taken { slots: self, count }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let free = self.slots.free.lock();
        *free.unwrap_or_else(PoisonError::into_inner) += self.count;
        self.slots.given_back.notify_all();
    }
}

/// The number of processors that virtual machines with `gib` GiB of memory each may have in all: the machine's
/// processors, but no more than the number of such VMs that fit into the available memory.
pub fn processors(gib: u64) -> usize {
    let processors = thread::available_parallelism().map_or(1, |count| count.get());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available_kib(&meminfo) {
        Some(kib) => processors.min((kib / (gib << 20)) as usize),
        None => processors,
    }
}

/// The memory that is available, in KiB, by `/proc/meminfo`.
fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again() {
        let slots = Slots::new(2);
        let (sender, taken) = mpsc::channel();
        let one = slots.take(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                let both = slots.take(2);
                sender.send(*slots.free.lock().expect("lock"))?;
                drop(both);
                Ok::<_, mpsc::SendError<usize>>(())
            });
            // A thread that wants both processors gets none while one is taken.
            assert_eq!(*slots.free.lock().expect("lock"), 1);
            assert!(taken.try_recv().is_err());
            drop(one);
            assert_eq!(taken.recv(), Ok(0));
        });
        assert_eq!(*slots.free.lock().expect("lock"), 2);
    }

    #[test]
    fn a_request_for_more_slots_than_exist_gets_all() {
        let slots = Slots::new(0);
        let all = slots.take(2);
        assert_eq!(*slots.free.lock().expect("lock"), 0);
        drop(all);
        drop(slots.take(1));
    }

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:       24000000 kB\nMemAvailable:   12345678 kB\n";
        assert_eq!(available_kib(meminfo), Some(12345678));
        assert_eq!(available_kib("MemTotal: 1 kB\n"), None);
    }
}
