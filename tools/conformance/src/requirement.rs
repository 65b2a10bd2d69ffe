// SPDX-License-Identifier: GPL-2.0

//! The requirements of a case, and the facts about a target that decide whether they are met.

use vfio_bindings::bindings::vfio;
use vfio_client::irq::Index;
use vfio_client::v1;
use vfio_client::v2;
use vfio_client::Cdev;
use vfio_client::Errno;
use vfio_client::Iommufd;
use vfio_drivers::probe;

use crate::check::Outcome;
use crate::kind::Kind;
use crate::subject::Subject;
use crate::target::Target;

/// A property of device, kernel or target without which a case proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Requirement {
    /// The v1 migration region, `VFIO_REGION_TYPE_MIGRATION`.
    V1,
    /// Protocol v2, `VFIO_DEVICE_FEATURE_MIGRATION`.
    V2,
    /// `VFIO_MIGRATION_P2P`.
    P2p,
    /// `VFIO_MIGRATION_PRE_COPY`.
    PreCopy,
    /// The device's own dirty log, `VFIO_DEVICE_FEATURE_DMA_LOGGING_START`.
    DirtyLog,
    /// iommufd.
    Iommufd,
    /// A character device for each VFIO device.
    Cdev,
    /// A driver in user space that gives the device work.
    Driver,
    /// A device that initiates DMA.
    Dma,
    /// INTx.
    Intx,
    /// MSI.
    Msi,
    /// MSI-X.
    Msix,
    /// Two devices at once.
    Pair,
    /// A type of mediated device, so that the case can create, configure and remove devices at will.
    Mdev,
    /// A device of Ferry's: the case is about its attributes, log lines, tracepoints or stream.
    Ferry,
    /// Emulated registers: the driver sees each access, and decides what it does.
    Emulated,
    /// A serial card of Ferry's.
    Uart,
    /// An NVMe controller of Ferry's.
    Nvme,
    /// An 82574L that Ferry's variant driver has.
    E1000e,
}

/// The properties of a target that decide about requirements.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The kind of a device.
    pub kind: Kind,
    /// There is a v1 migration region.
    pub v1: bool,
    /// `VFIO_MIGRATION_*` of protocol v2, `None` without it.
    pub v2: Option<u64>,
    /// There is a dirty log of the device.
    pub dirty_log: bool,
    /// The kernel has iommufd.
    pub iommufd: bool,
    /// The device has a character device.
    pub cdev: bool,
    /// The name of the user-space driver that gives the device work.
    pub driver: Option<String>,
    /// The device initiates DMA for its driver.
    pub dma: bool,
    /// The number of INTx, MSI and MSI-X interrupts.
    pub interrupts: [u32; 3],
    /// The target has two devices at once.
    pub pair: bool,
    /// The target is a type of mediated device.
    pub mdev: bool,
}

impl Facts {
    /// Opens a device of the target, asks it, and closes it.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened or asked.
    pub fn gather(subject: &Subject, target: &Target) -> Outcome<Self> {
        let session = target.backend.open(subject)?;
        let device = session.device();
        let migration = v2::Migration::new(device);
        let driver = probe(device)?;
        let count = |index| match device.irq_info(index as u32) {
            Ok(info) => info.count,
            Err(_) => 0,
        };
        // A region keeps the device open. As a temporary of the last expression it would be dropped after
        // `subject`, whose removal would wait for it.
        let v1 = v1::Migration::find(device)?.is_some();
        let facts = Facts {
            kind: subject.kind(),
            v1,
            v2: unless_absent(migration.flags())?,
            dirty_log: unless_absent(migration.probe(v2::Feature::LOGGING_START, v2::SET))?
                .is_some(),
            iommufd: Iommufd::exists(),
            cdev: Cdev::exists(subject)?,
            dma: driver
                .as_ref()
                .is_some_and(|driver| driver.memory_size() != 0),
            driver: driver.map(|driver| driver.name()),
            interrupts: [Index::Intx, Index::Msi, Index::Msix].map(count),
            pair: target.has_pair(),
            mdev: target.is_type(),
        };
        Ok(facts)
    }
}

/// Turns the `ENOTTY` of a feature that the device does not have into `None`.
fn unless_absent<T>(answer: vfio_client::Result<T>) -> Outcome<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.errno() == Some(Errno::NOTTY) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Requirement {
    /// Says whether a case with the requirement is about this kind of device.
    pub fn concerns(self, kind: Kind) -> bool {
        match self {
            Requirement::Ferry => kind.is_ferry(),
            Requirement::Emulated => kind.is_emulated(),
            Requirement::Uart => matches!(kind, Kind::Uart { .. }),
            Requirement::Nvme => matches!(kind, Kind::Nvme { .. }),
            Requirement::E1000e => kind == Kind::E1000e,
            _ => true,
        }
    }

    /// Says whether every device of the kind meets the requirement on every kernel. If one does not, its
    /// driver is at fault, and a case must not be skipped for it.
    pub fn is_promised(self, kind: Kind) -> bool {
        let by_kernel_or_target = matches!(
            self,
            Requirement::Iommufd
                | Requirement::Cdev
                | Requirement::DirtyLog
                | Requirement::Pair
                | Requirement::Mdev
        );
        kind != Kind::Other && !by_kernel_or_target
    }

    /// Returns why the requirement is missing, or `None` if it is met.
    pub fn missing(self, facts: &Facts) -> Option<&'static str> {
        let flag = |flag: u32| facts.v2.is_some_and(|flags| flags & u64::from(flag) != 0);
        let [intx, msi, msix] = facts.interrupts;
        let (met, why) = match self {
            Requirement::V1 => (facts.v1, "the device has no migration region (protocol v1)"),
            Requirement::V2 => (
                facts.v2.is_some(),
                "the device has no VFIO_DEVICE_FEATURE_MIGRATION (protocol v2)",
            ),
            Requirement::P2p => (
                flag(vfio::VFIO_MIGRATION_P2P),
                "the device has no P2P states (VFIO_MIGRATION_P2P)",
            ),
            Requirement::PreCopy => (
                flag(vfio::VFIO_MIGRATION_PRE_COPY),
                "the device has no pre-copy (VFIO_MIGRATION_PRE_COPY)",
            ),
            Requirement::DirtyLog => (
                facts.dirty_log,
                "the device logs no DMA here (CONFIG_IOMMUFD_DRIVER)",
            ),
            Requirement::Iommufd => (
                facts.iommufd,
                "this kernel has no iommufd (no /dev/iommu; CONFIG_IOMMUFD)",
            ),
            Requirement::Cdev => (
                facts.cdev,
                "devices have no character device on this kernel (CONFIG_VFIO_DEVICE_CDEV)",
            ),
            Requirement::Driver => (
                facts.driver.is_some(),
                "vfio-drivers has no driver that would give the device work",
            ),
            Requirement::Dma => (facts.dma, "the device initiates no DMA for its driver"),
            Requirement::Intx => (intx != 0, "the device has no INTx"),
            Requirement::Msi => (msi != 0, "the device has no MSI"),
            Requirement::Msix => (msix != 0, "the device has no MSI-X"),
            Requirement::Pair => (
                facts.pair,
                "the case needs two devices at once (--second)",
            ),
            Requirement::Mdev => (
                facts.mdev,
                "the case creates, configures or removes devices, which takes a type of mediated device",
            ),
            Requirement::Ferry
            | Requirement::Emulated
            | Requirement::Uart
            | Requirement::Nvme
            | Requirement::E1000e => (
                self.concerns(facts.kind),
                "the case is about another kind of device",
            ),
        };
        (!met).then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::Facts;
    use super::Requirement;
    use crate::kind::Kind;

    const ALL: [Requirement; 19] = [
        Requirement::V1,
        Requirement::V2,
        Requirement::P2p,
        Requirement::PreCopy,
        Requirement::DirtyLog,
        Requirement::Iommufd,
        Requirement::Cdev,
        Requirement::Driver,
        Requirement::Dma,
        Requirement::Intx,
        Requirement::Msi,
        Requirement::Msix,
        Requirement::Pair,
        Requirement::Mdev,
        Requirement::Ferry,
        Requirement::Emulated,
        Requirement::Uart,
        Requirement::Nvme,
        Requirement::E1000e,
    ];

    fn missing(facts: &Facts) -> Vec<Requirement> {
        ALL.into_iter()
            .filter(|requirement| requirement.missing(facts).is_some())
            .collect()
    }

    fn nothing() -> Facts {
        Facts {
            kind: Kind::Other,
            v1: false,
            v2: None,
            dirty_log: false,
            iommufd: false,
            cdev: false,
            driver: None,
            dma: false,
            interrupts: [0; 3],
            pair: false,
            mdev: false,
        }
    }

    #[test]
    fn a_device_with_nothing_lacks_everything() {
        let mut all = ALL.to_vec();
        // Of a device that nobody knows, the cases of emulated registers are tried.
        all.retain(|requirement| *requirement != Requirement::Emulated);
        assert_eq!(missing(&nothing()), all);
    }

    #[test]
    fn a_card_of_ferry_lacks_emulated_registers_and_what_is_its_kernels() {
        let facts = Facts {
            kind: Kind::E1000e,
            v1: true,
            v2: Some(0b111),
            driver: Some("82574L".into()),
            dma: true,
            interrupts: [1, 1, 5],
            ..nothing()
        };
        let missing = missing(&facts);
        assert_eq!(
            missing,
            [
                Requirement::DirtyLog,
                Requirement::Iommufd,
                Requirement::Cdev,
                Requirement::Pair,
                Requirement::Mdev,
                Requirement::Emulated,
                Requirement::Uart,
                Requirement::Nvme,
            ]
        );
        for promised in [
            Requirement::V1,
            Requirement::V2,
            Requirement::P2p,
            Requirement::PreCopy,
            Requirement::Driver,
            Requirement::Dma,
            Requirement::Intx,
            Requirement::Msi,
            Requirement::Msix,
        ] {
            assert!(promised.is_promised(Kind::E1000e), "{promised:?}");
        }
    }

    #[test]
    fn an_nvme_controller_of_ferry_on_a_kernel_without_iommufd() {
        let facts = Facts {
            kind: Kind::Nvme { shift: 9 },
            v1: true,
            v2: Some(0b111),
            driver: Some("NVMe controller".into()),
            dma: true,
            interrupts: [1, 0, 17],
            pair: true,
            mdev: true,
            ..nothing()
        };
        assert_eq!(
            missing(&facts),
            [
                Requirement::DirtyLog,
                Requirement::Iommufd,
                Requirement::Cdev,
                Requirement::Msi,
                Requirement::Uart,
                Requirement::E1000e,
            ]
        );
    }

    #[test]
    fn a_flag_of_protocol_v2_is_required_by_itself() {
        for (flags, expected) in [
            (0b001, [Requirement::P2p, Requirement::PreCopy].as_slice()),
            (0b011, &[Requirement::PreCopy]),
            (0b101, &[Requirement::P2p]),
            (0b111, &[]),
        ] {
            let facts = Facts {
                v2: Some(flags),
                ..nothing()
            };
            let seen: Vec<_> = missing(&facts)
                .into_iter()
                .filter(|one| matches!(one, Requirement::P2p | Requirement::PreCopy))
                .collect();
            assert_eq!(seen, expected, "flags {flags:#b}");
        }
    }

    #[test]
    fn only_the_kind_of_device_keeps_a_case_out_of_the_plan() {
        for requirement in ALL {
            let about_kind = matches!(
                requirement,
                Requirement::Ferry | Requirement::Uart | Requirement::Nvme | Requirement::E1000e
            );
            assert_eq!(
                requirement.concerns(Kind::Mtty),
                !about_kind,
                "{requirement:?}"
            );
        }
        assert!(Requirement::V1.is_promised(Kind::Uart { ports: 1 }));
        assert!(!Requirement::Cdev.is_promised(Kind::Uart { ports: 1 }));
        assert!(!Requirement::V1.is_promised(Kind::Other));
        assert!(Requirement::Uart.concerns(Kind::Uart { ports: 2 }));
        assert!(!Requirement::Uart.concerns(Kind::Nvme { shift: 9 }));
        assert!(Requirement::Ferry.concerns(Kind::Nvme { shift: 9 }));
    }
}
