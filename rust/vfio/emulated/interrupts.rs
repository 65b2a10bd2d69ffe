// SPDX-License-Identifier: GPL-2.0

//! Interrupts of an emulated PCI device: INTx, MSI and MSI-X, each on eventfds, and the eventfd by which the
//! host asks the user to release the device.
//!
//! The rules are those of `drivers/vfio/pci/vfio_pci_intrs.c`: the three exclude each other, INTx masks
//! itself when it is delivered, and a level that is still high when INTx is unmasked is delivered again.
//!
//! A message that finds no eventfd waits for one, as it would in the pending bit array of a real
//! MSI-X table: QEMU 7.2 disables all of MSI-X for a moment whenever the guest adds a vector.
//!
//! A driver that executes posted writes later says so by [`Interrupts::mark_line_stale`]: such a write may
//! lower the line, and a user who unmasks INTx meanwhile must not get INTx once more.
//!
//! # Lock order
//!
//! `Interrupts::unmask_listener`, then `Router::routing`. The routing is a spinlock so that a
//! driver may set the line with any lock of its own held. The listener's callback does not take the
//! listener's lock, for the drop of the listener waits for the callback.

use crate::{
    irq::{
        routing::{
            self,
            OtherEnabled,
            Trigger,
            Vector, //
        },
        Action,
        Data,
        Index,
        Info,
        Set, //
    },
    virqfd::{
        Signalled,
        Virqfd, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
};
use kernel_ext::{
    eventfd::EventFd,
    new_lock, //
};

/// Number of vectors of a device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VectorCounts {
    /// MSI: 0 to 32.
    pub msi: u32,
    /// MSI-X: 0 to 32, the number of bits of [`Interrupts::raise`].
    pub msix: u32,
}

type Routing = routing::Routing<EventFd, KVec<Vector<EventFd>>>;

impl Trigger for EventFd {
    fn signal(&self) {
        EventFd::signal(self);
    }
}

/// The part of [`Interrupts`] that a listener to an unmask eventfd keeps alive.
#[pin_data]
struct Router {
    #[pin]
    routing: SpinLock<Routing>,
    /// A posted write that has not been executed may change the line's level.
    stale: Atomic<bool>,
}

impl Signalled for Router {
    fn signalled(&self) {
        self.unmask();
    }
}

impl Router {
    fn unmask(&self) {
        let mut routing = self.routing.lock();
        routing.mask_intx(false);
        self.deliver_intx(&mut routing);
    }

    /// Delivers INTx unless its level is stale: then the next [`Interrupts::set_line`] delivers it.
    fn deliver_intx(&self, routing: &mut Routing) {
        if !self.stale.load(Relaxed) {
            routing.deliver_intx();
        }
    }

    fn deliver_pending(&self, routing: &mut Routing) {
        self.deliver_intx(routing);
        routing.deliver_messages();
    }
}

/// The interrupts of one device.
#[pin_data]
pub struct Interrupts {
    router: Arc<Router>,
    #[pin]
    unmask_listener: Mutex<Option<Virqfd<Router>>>,
    /// The eventfd by which the user is asked to release the device.
    #[pin]
    request: SpinLock<Option<EventFd>>,
    counts: VectorCounts,
}

impl Interrupts {
    /// The interrupts of a device with INTx and `counts` vectors. No index is enabled.
    pub fn new(counts: VectorCounts) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            router: {
                let count = counts.msi.max(counts.msix);
                let mut vectors = KVec::with_capacity(count as usize, GFP_KERNEL_ACCOUNT)?;
                for _ in 0..count {
                    vectors.push(Vector::default(), GFP_KERNEL_ACCOUNT)?;
                }
                Arc::pin_init(
                    pin_init!(Router {
                        routing <- new_lock!(
                            SpinLock,
                            c"Router::routing",
                            Routing::new(vectors)
                        ),
                        stale: Atomic::new(false),
                    }),
                    GFP_KERNEL_ACCOUNT,
                )?
            },
            unmask_listener <- new_lock!(Mutex, c"Interrupts::unmask_listener", None),
            request <- new_lock!(SpinLock, c"Interrupts::request", None),
            counts,
        })
    }

    /// The answer to `VFIO_DEVICE_GET_IRQ_INFO`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no index `index`.
    pub fn info(&self, index: u32) -> Result<Info> {
        if index >= Index::COUNT {
            return Err(EINVAL);
        }

        if index == vfio_bindings::VFIO_PCI_REQ_IRQ_INDEX {
            return Ok(Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD | vfio_bindings::VFIO_IRQ_INFO_NORESIZE,
                count: 1,
            });
        }

        Ok(match Index::new(index) {
            Some(Index::Intx) => Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD
                    | vfio_bindings::VFIO_IRQ_INFO_MASKABLE
                    | vfio_bindings::VFIO_IRQ_INFO_AUTOMASKED,
                count: 1,
            },
            Some(Index::Msi) if self.counts.msi > 0 => Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD | vfio_bindings::VFIO_IRQ_INFO_NORESIZE,
                count: self.counts.msi,
            },
            // Without NORESIZE: a user may add vectors at any time.
            Some(Index::Msix) if self.counts.msix > 0 => Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD,
                count: self.counts.msix,
            },
            _ => Info { flags: 0, count: 0 },
        })
    }

    /// Marks the level of INTx stale until the next [`Self::set_line`]: the device has taken a posted write
    /// that it executes later. Can be called with any lock held.
    ///
    /// The caller must have recorded the write before.
    pub fn mark_line_stale(&self) {
        self.router.stale.store(true, Release);
    }

    /// Sets the level of INTx, and the cause whose rising edge raises MSI vector 0. `unseen` says whether a
    /// posted write has been recorded since the device looked, for which the device will call once more.
    /// Can be called with any lock held.
    pub fn set_line(&self, intx_level: bool, cause: bool, unseen: impl FnOnce() -> bool) {
        let mut routing = self.router.routing.lock();
        routing.set_line(intx_level, cause);

        // In this order: a write that `unseen` does not see is recorded later, so its `mark_line_stale()`
        // comes after the exchange.
        let stale = &self.router.stale;
        if stale.load(Relaxed) && stale.xchg(false, Full) && unseen() {
            stale.store(true, Relaxed);
        }
        self.router.deliver_intx(&mut routing);
    }

    /// Raises the MSI-X vectors whose bits are set in `vectors`. A vector that cannot be delivered
    /// now is delivered once that is possible. Can be called with any lock held.
    pub fn raise(&self, vectors: u32) {
        if vectors == 0 {
            return;
        }

        let mut routing = self.router.routing.lock();
        for number in (0..u32::BITS).filter(|number| vectors & (1 << number) != 0) {
            routing.raise(number as usize);
        }
    }

    /// Says whether the power state or the bus master bit forbids messages. Messages wait meanwhile, and are
    /// delivered when the device may send them again. Can be called with any lock held.
    pub fn set_asleep(&self, asleep: bool) {
        self.router.routing.lock().set_asleep(asleep);
    }

    /// Forgets the level, the cause and the pending vectors, so that the next [`Self::set_line`] counts as
    /// an edge: the device's state has been replaced.
    pub fn forget(&self) {
        self.router.routing.lock().forget();
    }

    /// Holds all interrupts back, for the device is being stopped. No interrupt is delivered after this
    /// call has returned.
    pub fn hold(&self) {
        self.router.routing.lock().hold(true);
    }

    /// Delivers interrupts again, those that waited first.
    pub fn release(&self) {
        let mut routing = self.router.routing.lock();
        routing.hold(false);
        self.router.deliver_pending(&mut routing);
    }

    /// The index that the user has enabled.
    pub fn enabled(&self) -> Option<Index> {
        self.router.routing.lock().enabled()
    }

    /// Disables the index that is enabled, as at open. Pending vectors stay pending until
    /// [`Self::forget`]. May sleep.
    pub fn disable(&self) {
        self.disable_locked(&mut self.unmask_listener.lock());
        *self.request.lock() = None;
    }

    /// Asks the user to release the device, which is being removed. Returns whether the user has set an
    /// eventfd for it.
    pub fn request_release(&self) -> bool {
        match &*self.request.lock() {
            Some(trigger) => {
                trigger.signal();
                true
            }
            None => false,
        }
    }

    /// Serves `VFIO_DEVICE_SET_IRQS` of `VFIO_PCI_REQ_IRQ_INDEX`, with the rules of vfio-pci.
    fn set_request(&self, set: &Set) -> Result {
        if set.action != Action::Trigger {
            return Err(ENOTTY);
        }
        // The eventfd is looked up and dropped with no lock held.
        let new = match &set.data {
            Data::EventFd(fds) => match *fds.first().ok_or(EINVAL)? {
                -1 => None,
                fd if fd < 0 => return Err(EINVAL),
                fd => Some(EventFd::from_fd(fd)?),
            },
            Data::Bool(wanted) => {
                if *wanted.first().ok_or(EINVAL)? {
                    self.request_release();
                }
                return Ok(());
            }
            Data::None if set.count > 0 => {
                return if self.request_release() {
                    Ok(())
                } else {
                    Err(EINVAL)
                };
            }
            Data::None if self.request.lock().is_none() => return Err(EINVAL),
            Data::None => None,
        };

        let former = core::mem::replace(&mut *self.request.lock(), new);
        drop(former);
        Ok(())
    }

    fn disable_locked(&self, unmask_listener: &mut Option<Virqfd<Router>>) {
        *unmask_listener = None;

        self.router.routing.lock().disable();
    }

    /// Serves `VFIO_DEVICE_SET_IRQS`, and returns whether that enabled or disabled an index. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for an action or data that the index does not have, `EINVAL` for an action on an index that
    /// is not enabled, for enabling an index while another one is enabled, or for numbers out of range; what
    /// [`EventFd::from_fd`] returns. The interrupts are unchanged then.
    pub fn set(&self, set: &Set) -> Result<bool> {
        if set.index == vfio_bindings::VFIO_PCI_REQ_IRQ_INDEX {
            return self.set_request(set).map(|()| false);
        }
        let mut unmask_listener = self.unmask_listener.lock();
        let index = Index::new(set.index).ok_or(ENOTTY)?;

        if let (Action::Trigger, Data::None, 0) = (set.action, &set.data, set.count) {
            match self.enabled() {
                Some(mode) if mode == index => {}
                // Disabling an index that is not enabled is no error, but must not disable the other index.
                _ => return Ok(false),
            }
            self.disable_locked(&mut unmask_listener);
            return Ok(true);
        }
        if set.count == 0 {
            return Err(EINVAL);
        }

        match (index, set.action, &set.data) {
            (_, Action::Trigger, Data::EventFd(fds)) => {
                return self.set_triggers(index, set.start, fds);
            }
            (_, Action::Trigger, Data::None) => self.trigger(index, set.start, set.count, |_| true),
            (_, Action::Trigger, Data::Bool(wanted)) => {
                self.trigger(index, set.start, set.count, |i| wanted[i])
            }
            (Index::Msi | Index::Msix, _, _) => Err(ENOTTY),
            (Index::Intx, action, data) => {
                if self.enabled() != Some(Index::Intx) {
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
                        self.router.routing.lock().mask_intx(true);
                        Ok(())
                    }
                }
            }
        }?;
        Ok(false)
    }

    /// Enables `index` if no index is enabled, and sets the eventfds from `start` on. Returns whether the
    /// call enabled the index.
    fn set_triggers(&self, index: Index, start: u32, fds: &[i32]) -> Result<bool> {
        // All eventfds are looked up before one is set, so that a bad one changes nothing.
        let mut triggers = KVec::with_capacity(fds.len(), GFP_KERNEL_ACCOUNT)?;
        for fd in fds {
            let trigger = match *fd {
                -1 => None,
                fd => Some(EventFd::from_fd(fd)?),
            };
            triggers.push(trigger, GFP_KERNEL_ACCOUNT)?;
        }

        let mut routing = self.router.routing.lock();
        let newly_enabled = routing
            .set_triggers(index, start as usize, triggers.into_iter())
            .map_err(|OtherEnabled| EINVAL)?;
        self.router.deliver_intx(&mut routing);

        Ok(newly_enabled)
    }

    /// Signals the interrupts that `wanted` picks, for the user's tests. INTx does not mask itself:
    /// as for vfio-pci, this tests the eventfd alone.
    fn trigger(
        &self,
        index: Index,
        start: u32,
        count: u32,
        wanted: impl Fn(usize) -> bool,
    ) -> Result {
        let routing = self.router.routing.lock();
        if routing.enabled() != Some(index) {
            return Err(EINVAL);
        }

        for i in (0..count as usize).filter(|i| wanted(*i)) {
            if let Some(trigger) = routing.trigger(start as usize + i) {
                trigger.signal();
            }
        }

        Ok(())
    }
}
