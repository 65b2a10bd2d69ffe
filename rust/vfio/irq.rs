// SPDX-License-Identifier: GPL-2.0

//! Interrupts of a PCI device as a user sees them: INTx and MSI, each on eventfds.
//!
//! Mirrors `struct vfio_irq_info` and `struct vfio_irq_set` of
//! [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h), with the rules of
//! `drivers/vfio/pci/vfio_pci_intrs.c`: INTx and MSI exclude each other, INTx masks itself when it
//! is delivered, and a level that is still high when it is unmasked is delivered again.
//!
//! # Lock order
//!
//! `Interrupts::unmask_listener`, then `Router::routing`. The routing is a spinlock so that a
//! driver may set the line with any lock of its own held. The listener's lock is never taken by
//! what the listener calls: taking the listener down waits for that.

use crate::eventfd::{
    EventFd,
    Signalled,
    Virqfd, //
};
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        SpinLock, //
    },
};

/// Which interrupt, `VFIO_PCI_*_IRQ_INDEX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Index {
    /// The level-triggered legacy interrupt.
    Intx,
    /// Message signalled interrupts.
    Msi,
}

impl Index {
    /// How many indexes a PCI device has; those that are not [`Index`] have no interrupts here.
    pub const COUNT: u32 = vfio_bindings::VFIO_PCI_NUM_IRQS;

    fn new(index: u32) -> Option<Self> {
        match index {
            vfio_bindings::VFIO_PCI_INTX_IRQ_INDEX => Some(Self::Intx),
            vfio_bindings::VFIO_PCI_MSI_IRQ_INDEX => Some(Self::Msi),
            _ => None,
        }
    }
}

/// What `VFIO_DEVICE_GET_IRQ_INFO` tells of an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Info {
    /// `VFIO_IRQ_INFO_*`
    pub flags: u32,
    /// How many interrupts the index has.
    pub count: u32,
}

/// What `VFIO_DEVICE_SET_IRQS` does, `VFIO_IRQ_SET_ACTION_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Mask.
    Mask,
    /// Unmask.
    Unmask,
    /// Signal, or set the eventfd to signal.
    Trigger,
}

/// What an action is done with, `VFIO_IRQ_SET_DATA_*`; one element for each interrupt.
pub enum Data {
    /// Do it.
    None,
    /// Do it where an element is set.
    Bool(KVec<bool>),
    /// Do it when the eventfd is signalled, or signal the eventfd; -1 takes the eventfd away.
    EventFd(KVec<i32>),
}

/// A `VFIO_DEVICE_SET_IRQS` whose numbers have been checked against [`Info::count`].
pub struct Set {
    /// `VFIO_PCI_*_IRQ_INDEX`
    pub index: u32,
    /// First interrupt.
    pub start: u32,
    /// How many.
    pub count: u32,
    /// What to do.
    pub action: Action,
    /// With what.
    pub data: Data,
}

/// One MSI vector.
#[derive(Default)]
struct Vector {
    trigger: Option<EventFd>,
    /// It was raised while delivery was held.
    pending: bool,
}

/// Where interrupts go now.
struct Routing {
    /// Which index the user has enabled.
    mode: Option<Index>,
    /// Nothing is delivered: the device is not running.
    held: bool,
    intx_trigger: Option<EventFd>,
    intx_level: bool,
    intx_masked: bool,
    /// The cause whose rising edge raises vector 0.
    cause: bool,
    vectors: KVec<Vector>,
}

impl Routing {
    /// Delivers INTx if it is high and nothing holds it back, and masks it then.
    fn deliver_intx(&mut self) {
        if self.mode != Some(Index::Intx) || !self.intx_level || self.intx_masked || self.held {
            return;
        }
        if let Some(trigger) = &self.intx_trigger {
            self.intx_masked = true;
            trigger.signal();
        }
    }

    /// Raises vector `number`, now or as soon as delivery is no longer held.
    fn raise(&mut self, number: usize) {
        if self.mode != Some(Index::Msi) {
            return;
        }
        let held = self.held;
        if let Some(vector) = self.vectors.get_mut(number) {
            match &vector.trigger {
                Some(trigger) if !held => {
                    vector.pending = false;
                    trigger.signal();
                }
                _ => vector.pending = true,
            }
        }
    }

    fn deliver_pending(&mut self) {
        self.deliver_intx();
        for number in 0..self.vectors.len() {
            if self.vectors[number].pending {
                self.raise(number);
            }
        }
    }
}

/// The part that a listener to an unmask eventfd keeps alive.
#[pin_data]
struct Router {
    #[pin]
    routing: SpinLock<Routing>,
}

impl Signalled for Router {
    fn signalled(&self) {
        self.unmask();
    }
}

impl Router {
    fn unmask(&self) {
        let mut routing = self.routing.lock();
        routing.intx_masked = false;
        routing.deliver_intx();
    }
}

/// The interrupts of one device.
#[pin_data]
pub struct Interrupts {
    router: Arc<Router>,
    #[pin]
    unmask_listener: Mutex<Option<Virqfd<Router>>>,
    msi_count: u32,
}

impl Interrupts {
    /// INTx and `msi_count` MSI vectors, none of them enabled.
    pub fn new(msi_count: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            router: {
                let mut vectors = KVec::with_capacity(msi_count as usize, GFP_KERNEL_ACCOUNT)?;
                for _ in 0..msi_count {
                    vectors.push(Vector::default(), GFP_KERNEL_ACCOUNT)?;
                }
                Arc::pin_init(
                    pin_init!(Router {
                        routing <- new_spinlock!(Routing {
                            mode: None,
                            held: false,
                            intx_trigger: None,
                            intx_level: false,
                            intx_masked: false,
                            cause: false,
                            vectors,
                        }),
                    }),
                    GFP_KERNEL_ACCOUNT,
                )?
            },
            unmask_listener <- new_mutex!(None),
            msi_count,
        })
    }

    /// The answer to `VFIO_DEVICE_GET_IRQ_INFO`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such index.
    pub fn info(&self, index: u32) -> Result<Info> {
        if index >= Index::COUNT {
            return Err(EINVAL);
        }

        Ok(match Index::new(index) {
            Some(Index::Intx) => Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD
                    | vfio_bindings::VFIO_IRQ_INFO_MASKABLE
                    | vfio_bindings::VFIO_IRQ_INFO_AUTOMASKED,
                count: 1,
            },
            Some(Index::Msi) if self.msi_count > 0 => Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD | vfio_bindings::VFIO_IRQ_INFO_NORESIZE,
                count: self.msi_count,
            },
            _ => Info { flags: 0, count: 0 },
        })
    }

    /// Sets what the device drives: the INTx line's level, and the cause whose rising edge raises
    /// MSI vector 0. Can be called with any lock held.
    pub fn set_line(&self, intx_level: bool, cause: bool) {
        let mut routing = self.router.routing.lock();
        let raised = cause && !routing.cause;
        routing.intx_level = intx_level;
        routing.cause = cause;

        routing.deliver_intx();
        if raised {
            routing.raise(0);
        }
    }

    /// Forgets what the device drove, so that the next [`Self::set_line`] counts as an edge: the
    /// device's state has been replaced.
    pub fn forget_line(&self) {
        let mut routing = self.router.routing.lock();
        routing.intx_level = false;
        routing.cause = false;
    }

    /// Delivers nothing from here on: the device is being stopped. No interrupt is delivered once
    /// this has returned.
    pub fn hold(&self) {
        self.router.routing.lock().held = true;
    }

    /// Delivers again, first of all what came up in the meantime.
    pub fn release(&self) {
        let mut routing = self.router.routing.lock();
        routing.held = false;
        routing.deliver_pending();
    }

    /// Back to no interrupt enabled, as at open. May sleep.
    pub fn disable(&self) {
        self.disable_locked(&mut self.unmask_listener.lock());
    }

    fn disable_locked(&self, unmask_listener: &mut Option<Virqfd<Router>>) {
        *unmask_listener = None;

        let mut routing = self.router.routing.lock();
        routing.mode = None;
        routing.intx_masked = false;
        routing.intx_trigger = None;
        for vector in routing.vectors.iter_mut() {
            *vector = Vector::default();
        }
    }

    /// Serves `VFIO_DEVICE_SET_IRQS`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for what an index does not have, `EINVAL` for an action on an index that is not
    /// enabled, for enabling one while the other is, or for numbers out of range; what
    /// [`EventFd::from_fd`] returns. Nothing has changed then.
    pub fn set(&self, set: &Set) -> Result {
        let mut unmask_listener = self.unmask_listener.lock();
        let index = Index::new(set.index).ok_or(ENOTTY)?;

        if let (Action::Trigger, Data::None, 0) = (set.action, &set.data, set.count) {
            match self.router.routing.lock().mode {
                Some(mode) if mode == index => {}
                // Disabling what is not enabled is harmless, but must not disable the other.
                _ => return Ok(()),
            }
            self.disable_locked(&mut unmask_listener);
            return Ok(());
        }
        if set.count == 0 {
            return Err(EINVAL);
        }

        match (index, set.action, &set.data) {
            (_, Action::Trigger, Data::EventFd(fds)) => self.set_triggers(index, set.start, fds),
            (_, Action::Trigger, Data::None) => self.trigger(index, set.start, set.count, |_| true),
            (_, Action::Trigger, Data::Bool(wanted)) => {
                self.trigger(index, set.start, set.count, |i| wanted[i])
            }
            (Index::Msi, _, _) => Err(ENOTTY),
            (Index::Intx, action, data) => {
                if self.router.routing.lock().mode != Some(Index::Intx) {
                    return Err(EINVAL);
                }
                match (action, data) {
                    (Action::Unmask, Data::EventFd(fds)) => {
                        let listener = match *fds.first().ok_or(EINVAL)? {
                            -1 => None,
                            fd => Some(Virqfd::new(fd, self.router.clone())?),
                        };
                        *unmask_listener = listener;
                        Ok(())
                    }
                    (_, Data::EventFd(_)) => Err(ENOTTY),
                    (_, Data::Bool(wanted)) if wanted.first() != Some(&true) => Ok(()),
                    (Action::Unmask, _) => {
                        self.router.unmask();
                        Ok(())
                    }
                    (_, _) => {
                        self.router.routing.lock().intx_masked = true;
                        Ok(())
                    }
                }
            }
        }
    }

    /// Enables `index` if nothing is enabled and sets the eventfds from `start` on.
    fn set_triggers(&self, index: Index, start: u32, fds: &[i32]) -> Result {
        // All of them before any is set, so that a bad one changes nothing.
        let mut triggers = KVec::with_capacity(fds.len(), GFP_KERNEL_ACCOUNT)?;
        for fd in fds {
            let trigger = match *fd {
                -1 => None,
                fd => Some(EventFd::from_fd(fd)?),
            };
            triggers.push(trigger, GFP_KERNEL_ACCOUNT)?;
        }

        let mut routing = self.router.routing.lock();
        if routing.mode.is_some_and(|mode| mode != index) {
            return Err(EINVAL);
        }
        let newly_enabled = routing.mode.is_none();
        routing.mode = Some(index);

        match index {
            Index::Intx => {
                routing.intx_trigger = triggers.pop().flatten();
                // Whoever hands in a new eventfd has seen no interrupt on it.
                routing.intx_masked = false;
                routing.deliver_intx();
            }
            Index::Msi => {
                for (number, trigger) in (start as usize..).zip(triggers.iter_mut()) {
                    if let Some(vector) = routing.vectors.get_mut(number) {
                        vector.trigger = trigger.take();
                    }
                }
                if newly_enabled && routing.cause {
                    routing.raise(0);
                }
                routing.deliver_pending();
            }
        }

        Ok(())
    }

    /// Signals the interrupts that `wanted` picks as if the device had, for the user's tests.
    fn trigger(
        &self,
        index: Index,
        start: u32,
        count: u32,
        wanted: impl Fn(usize) -> bool,
    ) -> Result {
        let mut routing = self.router.routing.lock();
        if routing.mode != Some(index) {
            return Err(EINVAL);
        }

        for i in (0..count as usize).filter(|i| wanted(*i)) {
            match index {
                Index::Intx => {
                    if let Some(trigger) = &routing.intx_trigger {
                        trigger.signal();
                        routing.intx_masked = true;
                    }
                }
                Index::Msi => {
                    if let Some(Vector {
                        trigger: Some(trigger),
                        ..
                    }) = routing.vectors.get(start as usize + i)
                    {
                        trigger.signal();
                    }
                }
            }
        }

        Ok(())
    }
}
