// SPDX-License-Identifier: GPL-2.0

//! The routing of a device's interrupts: the index that the user has enabled, its triggers, and the
//! interrupts that wait to be delivered.
//!
//! The module has no lock and no eventfd, so that the rules run in host tests. The interrupts of an emulated
//! device keep the routing under a spinlock, with eventfds as triggers.

#![forbid(unsafe_code)]

use core::ops::DerefMut;

/// A kind of interrupt, `VFIO_PCI_*_IRQ_INDEX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Index {
    /// The level-triggered legacy interrupt.
    Intx,
    /// Message signalled interrupts.
    Msi,
    /// Message signalled interrupts from a table in a BAR.
    Msix,
}

/// The receiver of an interrupt, such as an eventfd.
pub trait Trigger {
    /// Delivers one interrupt.
    fn signal(&self);
}

/// One MSI or MSI-X vector.
#[derive(Clone, Debug)]
pub struct Vector<T> {
    trigger: Option<T>,
    /// The vector was raised while it could not be delivered.
    pending: bool,
}

impl<T> Default for Vector<T> {
    fn default() -> Self {
        Self {
            trigger: None,
            pending: false,
        }
    }
}

/// Another index is enabled, and the indexes exclude each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OtherEnabled;

/// The routing of a device's interrupts.
#[derive(Clone, Debug)]
pub struct Routing<T, V> {
    /// The index that the user has enabled.
    mode: Option<Index>,
    /// No interrupt is delivered: the device is not running.
    held: bool,
    /// No message is delivered: the power state or the bus master bit forbids it.
    asleep: bool,
    intx_trigger: Option<T>,
    intx_level: bool,
    intx_masked: bool,
    /// The cause whose rising edge raises MSI vector 0.
    cause: bool,
    vectors: V,
}

impl<T: Trigger, V: DerefMut<Target = [Vector<T>]>> Routing<T, V> {
    /// A routing with no index enabled and no vector pending.
    pub fn new(vectors: V) -> Self {
        Self {
            mode: None,
            held: false,
            asleep: false,
            intx_trigger: None,
            intx_level: false,
            intx_masked: false,
            cause: false,
            vectors,
        }
    }

    /// The index that the user has enabled.
    pub fn enabled(&self) -> Option<Index> {
        self.mode
    }

    /// Sets the level of INTx, which [`Self::deliver_intx`] delivers, and the cause whose rising edge raises
    /// MSI vector 0.
    pub fn set_line(&mut self, intx_level: bool, cause: bool) {
        let rising = cause && !self.cause;
        self.intx_level = intx_level;
        self.cause = cause;

        if rising && self.mode == Some(Index::Msi) {
            self.raise(0);
        }
    }

    /// Delivers INTx and masks it, if its level is high and it is neither masked nor held.
    pub fn deliver_intx(&mut self) {
        if self.mode != Some(Index::Intx) || !self.intx_level || self.intx_masked || self.held {
            return;
        }
        if let Some(trigger) = &self.intx_trigger {
            self.intx_masked = true;
            trigger.signal();
        }
    }

    /// Masks INTx, or unmasks it without delivering it yet.
    pub fn mask_intx(&mut self, masked: bool) {
        self.intx_masked = masked;
    }

    /// Raises vector `number`, which is delivered now or as soon as it can be.
    pub fn raise(&mut self, number: usize) {
        let enabled = matches!(self.mode, Some(Index::Msi | Index::Msix));
        let deliverable = enabled && !self.held && !self.asleep;
        if let Some(vector) = self.vectors.get_mut(number) {
            match &vector.trigger {
                Some(trigger) if deliverable => {
                    vector.pending = false;
                    trigger.signal();
                }
                _ => vector.pending = true,
            }
        }
    }

    /// Delivers the pending vectors that can be delivered.
    pub fn deliver_messages(&mut self) {
        for number in 0..self.vectors.len() {
            if self
                .vectors
                .get(number)
                .is_some_and(|vector| vector.pending)
            {
                self.raise(number);
            }
        }
    }

    /// Holds all interrupts back, or lets them go again.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Holds messages back while the device is asleep, and delivers the pending ones when it wakes up.
    pub fn set_asleep(&mut self, asleep: bool) {
        if core::mem::replace(&mut self.asleep, asleep) && !asleep {
            self.deliver_messages();
        }
    }

    /// Forgets the level, the cause and the pending vectors of the device.
    pub fn forget(&mut self) {
        self.intx_level = false;
        self.cause = false;
        for vector in self.vectors.iter_mut() {
            vector.pending = false;
        }
    }

    /// Enables `index` if no index is enabled, and sets the triggers from `start` on. Pending vectors are
    /// delivered to the new triggers; INTx is not. Returns whether the call enabled the index.
    ///
    /// # Errors
    ///
    /// Another index is enabled; the routing is unchanged.
    pub fn set_triggers(
        &mut self,
        index: Index,
        start: usize,
        triggers: impl Iterator<Item = Option<T>>,
    ) -> Result<bool, OtherEnabled> {
        if self.mode.is_some_and(|mode| mode != index) {
            return Err(OtherEnabled);
        }
        let newly_enabled = self.mode.is_none();
        self.mode = Some(index);

        if index == Index::Intx {
            // As for vfio-pci, INTx stays masked until it is unmasked, whatever its trigger.
            self.intx_trigger = triggers.last().flatten();
            return Ok(newly_enabled);
        }
        for (number, trigger) in (start..).zip(triggers) {
            if let Some(vector) = self.vectors.get_mut(number) {
                vector.trigger = trigger;
            }
        }
        if index == Index::Msi && newly_enabled && self.cause {
            self.raise(0);
        }
        self.deliver_messages();
        Ok(newly_enabled)
    }

    /// Disables the index that is enabled.
    ///
    /// Vectors stay pending for MSI-X, whose pending bits are the device's and not the user's. A device
    /// may raise a message while INTx is still enabled here, as QEMU writes the enable bit of MSI-X before it
    /// disables INTx.
    pub fn disable(&mut self) {
        let keep_pending = self.mode != Some(Index::Msi);
        self.mode = None;
        self.intx_masked = false;
        self.intx_trigger = None;
        for vector in self.vectors.iter_mut() {
            vector.trigger = None;
            vector.pending &= keep_pending;
        }
    }

    /// The trigger of an interrupt of the index that is enabled.
    pub fn trigger(&self, number: usize) -> Option<&T> {
        match self.mode? {
            Index::Intx => self.intx_trigger.as_ref(),
            Index::Msi | Index::Msix => self.vectors.get(number)?.trigger.as_ref(),
        }
    }
}
