// SPDX-License-Identifier: GPL-2.0

//! A device model: what a PCI function does.

use core::fmt::Display;

use crate::guest_memory::GuestMemory;
use crate::log::Log;
use crate::posted_writes::PostedWrites;

/// The most bytes of the configuration of a device, which source and destination of a migration must have
/// in common.
pub const CONFIGURATION_MAX: usize = 64;

/// Numbers of interrupt vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors {
    /// MSI vectors, at most one.
    pub msi: u32,
    /// MSI-X vectors.
    pub msix: u32,
}

/// Whether the worker has to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// No work is left until the device is written to.
    Idle,
    /// Work is left.
    More,
    /// No work is left, but more may come without a write to the device: the worker looks for it for a while.
    Poll,
}

/// A PCI device as a value, in two halves: the registers that accesses reach, which are this type, and the
/// [executor](Self::Executor), which does the work.
///
/// Nothing is in flight between two calls: what a call starts it ends, or makes a part of the state. So
/// the device can be saved between any two calls.
///
/// The methods are called with the lock of the registers held, which is held for the time of a memory access
/// only. Offsets and lengths are the user's: an access that does not lie in the region is to be refused and to
/// change nothing. An access is 1, 2, 4 or 8 bytes at a multiple of its size.
pub trait DeviceModel: Sized + Send + 'static {
    /// The half that does the work, which may wait for the guest's memory and for the backend: so it has a lock of its
    /// own. `()` for a device that does everything in the accesses.
    type Executor: Send + 'static;
    /// What distinguishes a device from others of its type before any guest uses it.
    type Parameters;
    /// Why parameters are refused.
    type ParameterError: Display;
    /// Why an access is refused.
    type AccessError: Display;
    /// Why a state is refused.
    type LoadError: Display + Send + Unpin + 'static;
    /// The registers that are written without the lock, `()` if none are.
    type Posted: PostedWrites;

    /// Names the kind of device in the stream, in at most 16 ASCII characters.
    const TYPE: &'static str;
    /// Bytes of configuration space.
    const CONFIG_SIZE: u64;
    /// The vectors that the device has.
    const VECTORS: Vectors;

    /// Returns a device after power-on.
    ///
    /// # Errors
    ///
    /// A device cannot have the parameters.
    fn power_on(parameters: &Self::Parameters) -> Result<Self, Self::ParameterError>;

    /// Returns whether the device, when it begins to run, has to have the [right](crate::Backend::acquire) to use its
    /// backend.
    fn uses_backend(&self) -> bool {
        false
    }

    /// Returns the executor of this device after power-on.
    fn executor(&self) -> Self::Executor;

    /// Exchanges what the halves have to know of each other: what software wrote, what the executor answers in the
    /// registers, and the messages that it raised. After a reset of the registers, resets the executor. Does not wait.
    fn exchange(&mut self, _executor: &mut Self::Executor) {}

    /// Makes posted writes a part of the state: the device is stopped.
    fn take_posted(_executor: &mut Self::Executor, _posted: &Self::Posted) {}

    /// Returns whether DMA that is under way has to end at once: since the last call, software reset the device or took
    /// away its right to access memory.
    fn take_dma_end(&mut self) -> bool {
        false
    }

    /// Writes the configuration, which must be the same on both ends of a migration, into `out`. Returns
    /// its length in bytes.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize;

    /// Returns whether the device answers accesses of BAR `bar`: its command register enables that kind
    /// of address, and the device is in D0. If not, the caller lets reads return all ones and drops
    /// writes, as a bus does.
    fn decodes(&self, bar: u32) -> bool;

    /// Reads registers of a BAR.
    ///
    /// # Errors
    ///
    /// The access ends past the BAR; nothing is read.
    fn read_bar(
        &mut self,
        bar: u32,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), Self::AccessError>;

    /// Returns what [`Self::read_bar`] would, without its side effects: the device is stopped.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_bar`].
    fn peek_bar(&self, bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), Self::AccessError>;

    /// Writes registers of a BAR.
    ///
    /// # Errors
    ///
    /// The access ends past the BAR; nothing is written.
    fn write_bar(&mut self, bar: u32, offset: u64, bytes: &[u8]) -> Result<(), Self::AccessError>;

    /// Writes registers of a BAR while the device is stopped. The device takes a write of the registers
    /// that direct its interrupts, such as an MSI-X table, and drops any other.
    ///
    /// # Errors
    ///
    /// As for [`Self::write_bar`].
    fn write_bar_stopped(
        &mut self,
        _bar: u32,
        _offset: u64,
        _bytes: &[u8],
    ) -> Result<(), Self::AccessError> {
        Ok(())
    }

    /// Reads configuration space.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is read.
    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Self::AccessError>;

    /// Writes configuration space; bits that software cannot change stay.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is written.
    fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::AccessError>;

    /// Returns whether the device may send messages: it is in D0 and a bus master. Messages that were
    /// not taken wait until then.
    fn may_send_messages(&self) -> bool {
        true
    }

    /// Returns whether the device asserts its interrupt pin.
    fn intx_asserted(&self) -> bool;

    /// Returns whether the device has a reason to interrupt. MSI vector 0 is sent when this becomes true.
    fn interrupt(&self) -> bool {
        false
    }

    /// Connects MSI-X, or disconnects it: while MSI-X is connected, messages are sent whatever the enable
    /// bit in configuration space says, which a user of vfio-pci cannot set. A new device starts
    /// disconnected, and a reset changes nothing.
    fn set_msix(&mut self, _connected: bool) {}

    /// As [`Self::set_msix`], for MSI.
    fn set_msi(&mut self, _connected: bool) {}

    /// Returns the MSI-X vectors to send messages for since the last call, as a set of bits.
    fn take_raised(&mut self) -> u32 {
        0
    }

    /// Whether the device ever has work. A device without has no worker, and [`Worker::work`] is not called.
    const HAS_WORK: bool = false;

    /// Returns whether [`Worker::work`] has to be called. Asked after each access that writes.
    fn has_work(&self) -> bool {
        false
    }

    /// Resets the device as `VFIO_DEVICE_RESET` does, to the state after power-on. The part of
    /// configuration space that vfio-pci restores around a reset stays: the header, and of the PCI Express
    /// capability device control, link control and device control 2. The content of the backend stays. The executor
    /// follows in the next [exchange](Self::exchange).
    fn reset(&mut self);

    /// Returns the most bytes that [`Self::save`] writes, which never changes.
    fn state_size(&self) -> usize;

    /// Writes the complete state of both halves, with everything in flight, to the front of `out`. Posted writes have
    /// to be [taken](Self::take_posted), and an [exchange](Self::exchange) to be made before.
    ///
    /// Returns the number of bytes written, or [`None`] if `out` is too small.
    fn save(&self, executor: &Self::Executor, out: &mut [u8]) -> Option<usize>;

    /// Loads into both halves a state that [`Self::save`] wrote for a device of the same configuration. `state` is hostile:
    /// it leads to a device that works, or to an error. Nothing of the device before is left: messages
    /// are disconnected, as in a new device.
    ///
    /// # Errors
    ///
    /// No device of the configuration can have the state. The device is good for nothing but another
    /// attempt then.
    fn load(&mut self, executor: &mut Self::Executor, state: &[u8]) -> Result<(), Self::LoadError>;
}

/// The way from an executor `E` to its registers, which software accesses meanwhile.
pub trait Link<E: ?Sized> {
    /// [Exchanges](DeviceModel::exchange) with the registers. Returns whether the device may go on.
    ///
    /// Accesses of memory are those of the device as it is now, from here on.
    fn exchange(&mut self, executor: &mut E) -> bool;

    /// Returns whether the executor may begin something else before the next exchange. If not, its accesses of memory
    /// fail.
    fn is_current(&self) -> bool;

    /// Whether [`Self::wake_in`] works.
    fn has_timer(&self) -> bool {
        false
    }

    /// Has [`Worker::work`] called when `microseconds` are over, unless such a time is under way already.
    fn wake_in(&self, _microseconds: u32) {}

    /// Returns whether a time of [`Self::wake_in`] is over, once for each.
    fn is_due(&self) -> bool {
        false
    }

    /// Returns whether the worker looks for more work for a while, by calls after [`Work::Poll`]. Then the guest need not
    /// write to the device when it has some.
    fn may_poll(&self) -> bool {
        false
    }
}

/// A device model whose executor reaches memory `M` of the guest and the backend `B`.
///
/// The defaults are a device without work, which does everything in the accesses.
pub trait Worker<M: GuestMemory, B: ?Sized>: DeviceModel {
    /// Does a part of the work. Waits as long as the memory and the backend do.
    ///
    /// Called in one thread while the device runs: after a posted write, when [`DeviceModel::has_work`] says so,
    /// when the device starts, as long as it returns [`Work::More`], and for a while as it returns [`Work::Poll`].
    fn work(
        _executor: &mut Self::Executor,
        _link: &mut dyn Link<Self::Executor>,
        _posted: &Self::Posted,
        _memory: &mut M,
        _backend: &mut B,
        _log: Log<'_>,
    ) -> Work {
        Work::Idle
    }

    /// Waits until nothing is under way that [`Self::work`] began and that goes on without it, and does what follows
    /// from that. Called between two calls of [`Self::work`], in its thread, before the device stops or the thread
    /// pauses. Returns whether nothing is under way: something may be left if the thread has to end.
    fn drain(
        _executor: &mut Self::Executor,
        _link: &mut dyn Link<Self::Executor>,
        _memory: &mut M,
        _backend: &mut B,
    ) -> bool {
        true
    }

    /// Returns whether something is under way that [`Self::work`] began and that goes on without it.
    fn is_under_way(_executor: &Self::Executor) -> bool {
        false
    }
}
