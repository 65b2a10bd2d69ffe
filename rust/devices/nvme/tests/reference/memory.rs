// SPDX-License-Identifier: GPL-2.0

//! The memory of a guest, which watches the controller and can turn against it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use nvme::{
    Doorbells,
    GuestMemory,
    MemoryError, //
};

use crate::spec::PAGE;

/// Content of a page that was never written: a byte that no test writes on purpose.
pub const CANARY: u8 = 0xc5;

/// Which way bytes go, seen from the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// One access of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub direction: Direction,
    pub address: u64,
    pub length: usize,
}

impl Access {
    fn touches(&self, range: &Range<u64>) -> bool {
        self.address < range.end && range.start < self.address.saturating_add(self.length as u64)
    }
}

/// When another processor strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    BeforeRead,
    AfterRead,
    BeforeWrite,
}

/// An action of another processor in the middle of the controller's work.
#[derive(Clone, Debug)]
struct Ambush {
    moment: Moment,
    range: Range<u64>,
    /// Changes of memory.
    change: Vec<(u64, Vec<u8>)>,
    /// A doorbell register that is written afterwards.
    ring: Option<(u64, u32)>,
}

/// A sparse memory: an access that leaves the mapped pages fails.
#[derive(Debug)]
pub struct Memory {
    doorbells: Rc<Doorbells>,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    broken: Vec<Range<u64>>,
    ambushes: Vec<Ambush>,
    /// All accesses since the last [`Memory::forget`].
    log: Vec<Access>,
    /// Number of accesses that work before one fails.
    fuse: Option<u64>,
}

impl Memory {
    /// Memory of a guest that has these doorbells.
    pub fn new(doorbells: &Rc<Doorbells>) -> Self {
        Self {
            doorbells: Rc::clone(doorbells),
            pages: BTreeMap::new(),
            broken: Vec::new(),
            ambushes: Vec::new(),
            log: Vec::new(),
            fuse: None,
        }
    }

    /// Maps the page at `address`, full of [`CANARY`].
    pub fn map(&mut self, address: u64) {
        assert_eq!(address % PAGE as u64, 0, "a page begins at {address:#x}");
        let page = self.pages.insert(address, Box::new([CANARY; PAGE]));
        assert!(page.is_none(), "the page at {address:#x} is free");
    }

    /// Unmaps the page at `address`.
    pub fn unmap(&mut self, address: u64) {
        self.pages
            .remove(&address)
            .expect("only a mapped page can be unmapped");
    }

    /// Makes accesses of the controller that touch `range` fail.
    pub fn break_down(&mut self, range: Range<u64>) {
        self.broken.push(range);
    }

    /// Makes the access after `accesses` further ones fail, and only that one.
    pub fn fail_after(&mut self, accesses: u64) {
        self.fuse = Some(accesses);
    }

    /// Repairs all that was made to fail.
    pub fn repair(&mut self) {
        self.broken.clear();
        self.fuse = None;
    }

    /// Changes memory once, in this moment of an access of the controller to `range`.
    pub fn ambush(&mut self, moment: Moment, range: Range<u64>, change: Vec<(u64, Vec<u8>)>) {
        self.ambushes.push(Ambush {
            moment,
            range,
            change,
            ring: None,
        });
    }

    /// As [`Memory::ambush`], and writes a doorbell register.
    pub fn ambush_and_ring(
        &mut self,
        moment: Moment,
        range: Range<u64>,
        change: Vec<(u64, Vec<u8>)>,
        ring: (u64, u32),
    ) {
        self.ambushes.push(Ambush {
            moment,
            range,
            change,
            ring: Some(ring),
        });
    }

    /// Number of ambushes that have not happened yet.
    pub fn ambushes(&self) -> usize {
        self.ambushes.len()
    }

    /// Forgets the accesses of the past.
    pub fn forget(&mut self) {
        self.log.clear();
    }

    /// The accesses since the last [`Memory::forget`].
    pub fn log(&self) -> &[Access] {
        &self.log
    }

    /// Number of accesses of the byte of `range` that was accessed most often.
    pub fn count(&self, direction: Direction, range: Range<u64>) -> usize {
        range
            .map(|byte| {
                self.log
                    .iter()
                    .filter(|access| access.direction == direction)
                    .filter(|access| access.touches(&(byte..byte + 1)))
                    .count()
            })
            .max()
            .unwrap_or(0)
    }

    /// Reads as the guest's processor.
    #[track_caller]
    pub fn get(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        assert!(
            self.copy_out(address, &mut bytes),
            "{length} bytes at {address:#x} are mapped"
        );
        bytes
    }

    /// Reads as the guest's processor.
    #[track_caller]
    pub fn get_u32(&self, address: u64) -> u32 {
        let bytes = self.get(address, 4);
        u32::from_le_bytes(bytes.try_into().expect("four bytes were read"))
    }

    /// Writes as the guest's processor.
    #[track_caller]
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        assert!(
            self.copy_in(address, bytes),
            "{} bytes at {address:#x} are mapped",
            bytes.len()
        );
    }

    /// All that is mapped.
    pub fn pages(&self) -> &BTreeMap<u64, Box<[u8; PAGE]>> {
        &self.pages
    }

    fn copy_out(&self, address: u64, into: &mut [u8]) -> bool {
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.checked_add(done as u64) else {
                return false;
            };
            let offset = (at % PAGE as u64) as usize;
            let Some(page) = self.pages.get(&(at - offset as u64)) else {
                return false;
            };
            let length = (PAGE - offset).min(into.len() - done);
            into[done..done + length].copy_from_slice(&page[offset..offset + length]);
            done += length;
        }
        true
    }

    fn copy_in(&mut self, address: u64, from: &[u8]) -> bool {
        let mut done = 0;
        while done < from.len() {
            let Some(at) = address.checked_add(done as u64) else {
                return false;
            };
            let offset = (at % PAGE as u64) as usize;
            let Some(page) = self.pages.get_mut(&(at - offset as u64)) else {
                return false;
            };
            let length = (PAGE - offset).min(from.len() - done);
            page[offset..offset + length].copy_from_slice(&from[done..done + length]);
            done += length;
        }
        true
    }

    /// Notes an access of the controller and tells whether it may work.
    fn admit(&mut self, access: Access) -> bool {
        self.log.push(access);
        let blown = self.fuse == Some(0);
        self.fuse = match self.fuse {
            Some(0) | None => None,
            Some(left) => Some(left - 1),
        };
        !blown && !self.broken.iter().any(|range| access.touches(range))
    }

    fn spring(&mut self, moment: Moment, access: Access) {
        let (sprung, waiting): (Vec<Ambush>, Vec<Ambush>) = std::mem::take(&mut self.ambushes)
            .into_iter()
            .partition(|ambush| ambush.moment == moment && access.touches(&ambush.range));
        self.ambushes = waiting;
        for ambush in sprung {
            for (address, bytes) in ambush.change {
                self.put(address, &bytes);
            }
            if let Some((register, value)) = ambush.ring {
                self.doorbells.post(register, &value.to_le_bytes());
            }
        }
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let access = Access {
            direction: Direction::Read,
            address,
            length: into.len(),
        };
        self.spring(Moment::BeforeRead, access);
        if !self.admit(access) || !self.copy_out(address, into) {
            // The controller must not use the bytes that a failed read leaves.
            into.fill(CANARY);
            return Err(MemoryError);
        }
        self.spring(Moment::AfterRead, access);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let access = Access {
            direction: Direction::Write,
            address,
            length: from.len(),
        };
        if !self.admit(access) {
            return Err(MemoryError);
        }
        self.spring(Moment::BeforeWrite, access);
        if !self.copy_in(address, from) {
            return Err(MemoryError);
        }
        Ok(())
    }
}
