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
//! A driver that takes writes and looks at them later says so ([`Interrupts::mark_line_stale`]): the line
//! may have to go down for them, and a user who unmasks INTx meanwhile must not get INTx once more.
//!
//! # Lock order
//!
//! `Interrupts::unmask_listener`, then `Router::routing`. The routing is a spinlock so that a
//! driver may set the line with any lock of its own held. The listener's lock is never taken by
//! what the listener calls: taking the listener down waits for that.

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

/// How many vectors a device has of each kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VectorCounts {
    /// MSI: 0 to 32.
    pub msi: u32,
    /// MSI-X: 0 to 32, which is what [`Interrupts::raise`] can name.
    pub msix: u32,
}

type Routing = routing::Routing<EventFd, KVec<Vector<EventFd>>>;

impl Trigger for EventFd {
    fn signal(&self) {
        EventFd::signal(self);
    }
}

/// The part that a listener to an unmask eventfd keeps alive.
#[pin_data]
struct Router {
    #[pin]
    routing: SpinLock<Routing>,
    /// The line's level may be out of date.
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

    /// Delivers INTx unless its level is in doubt, in which case that of the next
    /// [`Interrupts::set_line`] counts.
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
    /// Whom to ask to release the device.
    #[pin]
    request: SpinLock<Option<EventFd>>,
    counts: VectorCounts,
}

impl Interrupts {
    /// INTx and `counts` vectors, none of them enabled.
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
    /// `EINVAL` if there is no such index.
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
            // Without NORESIZE: a vector more can be had at any time.
            Some(Index::Msix) if self.counts.msix > 0 => Info {
                flags: vfio_bindings::VFIO_IRQ_INFO_EVENTFD,
                count: self.counts.msix,
            },
            _ => Info { flags: 0, count: 0 },
        })
    }

    /// The device has taken a write without looking at it, which it does later: until
    /// [`Self::set_line`] the level of INTx may be an old one. Can be called with any lock held.
    ///
    /// The write has to be noted before.
    pub fn mark_line_stale(&self) {
        self.router.stale.store(true, Release);
    }

    /// Sets what the device drives: the INTx line's level, and the cause whose rising edge raises
    /// MSI vector 0. `unseen` says whether a write has been noted since, for which the device will
    /// call once more. Can be called with any lock held.
    pub fn set_line(&self, intx_level: bool, cause: bool, unseen: impl FnOnce() -> bool) {
        let mut routing = self.router.routing.lock();
        routing.set_line(intx_level, cause);

        // In this order: a write that `unseen` does not see is doubted after it was forgotten here.
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

    /// Says whether the device is in a power state in which it may not interrupt. Messages wait
    /// meanwhile, and are delivered when it may again. Can be called with any lock held.
    pub fn set_asleep(&self, asleep: bool) {
        self.router.routing.lock().set_asleep(asleep);
    }

    /// Forgets what the device drove and raised, so that the next [`Self::set_line`] counts as an
    /// edge: the device's state has been replaced.
    pub fn forget(&self) {
        self.router.routing.lock().forget();
    }

    /// Delivers nothing from here on: the device is being stopped. No interrupt is delivered once
    /// this has returned.
    pub fn hold(&self) {
        self.router.routing.lock().hold(true);
    }

    /// Delivers again, first of all what came up in the meantime.
    pub fn release(&self) {
        let mut routing = self.router.routing.lock();
        routing.hold(false);
        self.router.deliver_pending(&mut routing);
    }

    /// Which index the user has enabled.
    pub fn enabled(&self) -> Option<Index> {
        self.router.routing.lock().enabled()
    }

    /// Back to no interrupt enabled, as at open. What is pending stays so until
    /// [`Self::forget`]. May sleep.
    pub fn disable(&self) {
        self.disable_locked(&mut self.unmask_listener.lock());
        *self.request.lock() = None;
    }

    /// Asks the user to release the device, as it is to be taken away. Returns whether the user has said
    /// where to ask.
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
        // Made and dropped with no lock held.
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
    /// `ENOTTY` for what an index does not have, `EINVAL` for an action on an index that is not
    /// enabled, for enabling one while the other is, or for numbers out of range; what
    /// [`EventFd::from_fd`] returns. Nothing has changed then.
    pub fn set(&self, set: &Set) -> Result<bool> {
        if set.index == vfio_bindings::VFIO_PCI_REQ_IRQ_INDEX {
            return self.set_request(set).map(|()| false);
        }
        let mut unmask_listener = self.unmask_listener.lock();
        let index = Index::new(set.index).ok_or(ENOTTY)?;

        if let (Action::Trigger, Data::None, 0) = (set.action, &set.data, set.count) {
            match self.enabled() {
                Some(mode) if mode == index => {}
                // Disabling what is not enabled is harmless, but must not disable the other.
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

    /// Enables `index` if nothing is enabled and sets the eventfds from `start` on. Returns whether it
    /// was enabled by that.
    fn set_triggers(&self, index: Index, start: u32, fds: &[i32]) -> Result<bool> {
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
