// SPDX-License-Identifier: GPL-2.0

//! Memory whose unmapping does not come to an end, as its pages are pinned again and again.
//!
//! type1 asks the driver to unpin the pages of a range, and asks again while it finds one. After ten times it takes the
//! driver for broken and stops the kernel, `BUG_ON(++retries > 10)`. A user can have one thread unmap a range while another
//! posts buffers in it, which pins them. The driver is not told when a range is gone. What it sees is a task that asks for
//! the same range and for no other one: then the driver pins no page of the range any more.

/// Tasks that are told apart. A VMM unmaps memory in the threads of its processors.
const TASKS: usize = 64;

/// How often a task may ask for the same range, well below type1's ten.
const MOST: u32 = 6;

/// What a task has asked for last.
#[derive(Clone, Copy)]
struct Last {
    task: i32,
    first: u64,
    count: u64,
    times: u32,
}

/// The ranges that tasks have asked to be unpinned.
pub struct Unmaps {
    last: [Option<Last>; TASKS],
    /// More tasks than can be told apart.
    crowded: bool,
    /// Some range is refused.
    refusing: bool,
}

impl Default for Unmaps {
    fn default() -> Self {
        Self {
            last: [None; TASKS],
            crowded: false,
            refusing: false,
        }
    }
}

impl Unmaps {
    /// Notes that `task` has asked for the `count` pages from `first` on. Some page of the range was pinned, by this
    /// driver or for another device.
    pub fn note(&mut self, task: i32, first: u64, count: u64) {
        let same = |last: &Option<Last>| last.is_some_and(|last| last.task == task);
        let place = self.last.iter().position(same);
        let free = || self.last.iter().position(Option::is_none);
        let Some(place) = place
            .or_else(free)
            .and_then(|place| self.last.get_mut(place))
        else {
            self.crowded = true;
            return;
        };

        let times = match place {
            Some(last) if (last.first, last.count) == (first, count) => {
                last.times.saturating_add(1)
            }
            _ => 1,
        };
        *place = Some(Last {
            task,
            first,
            count,
            times,
        });
        self.refusing = self.last.iter().flatten().any(|last| last.times >= MOST);
    }

    /// Whether the page must not be pinned.
    pub fn refuses(&self, page: u64) -> bool {
        self.crowded
            || self.refusing
                && self
                    .last
                    .iter()
                    .flatten()
                    .any(|last| last.times >= MOST && page.wrapping_sub(last.first) < last.count)
    }
}
