// SPDX-License-Identifier: GPL-2.0

//! The device that a case runs on, in sysfs.

use core::ops::Deref;

use vfio_client::Mdev;
use vfio_client::SysfsDevice;

use crate::check::Outcome;
use crate::check::Stop;
use crate::kind::Kind;

/// The device of one case: a mediated device of the case's own, which is removed with this object, or a
/// device that exists without the case.
#[derive(Debug)]
pub struct Subject {
    kind: Kind,
    device: Held,
}

#[derive(Debug)]
enum Held {
    Own(Mdev),
    Existing(SysfsDevice),
}

impl Subject {
    /// Takes a mediated device of one of the types that the cases know.
    #[track_caller]
    pub fn new(mdev: Mdev) -> Outcome<Self> {
        let name = mdev.type_name()?;
        let kind = Kind::of_type(&name)
            .ok_or_else(|| Stop::failed(format_args!("{name} is a type nobody knows")))?;
        Ok(Subject {
            kind,
            device: Held::Own(mdev),
        })
    }

    /// Takes a mediated device of another owner, who removes it.
    #[track_caller]
    pub fn existing(uuid: &str) -> Outcome<Self> {
        Subject::new(Mdev::existing(uuid))
    }

    /// Takes a device that exists without the case.
    pub fn at(device: SysfsDevice, kind: Kind) -> Self {
        Subject {
            kind,
            device: Held::Existing(device),
        }
    }

    /// Returns the kind of the device.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Leaves the device in place when this object goes.
    pub fn keep(self) -> Self {
        Subject {
            device: match self.device {
                Held::Own(mdev) => Held::Own(mdev.keep()),
                existing => existing,
            },
            ..self
        }
    }

    /// Removes a mediated device now.
    #[track_caller]
    pub fn remove(self) -> Outcome {
        match self.device {
            Held::Own(mdev) => Ok(mdev.remove()?),
            Held::Existing(device) => Err(Stop::Skipped(format!(
                "{} is not the test's own to remove",
                device.name()
            ))),
        }
    }
}

impl Deref for Subject {
    type Target = SysfsDevice;

    fn deref(&self) -> &SysfsDevice {
        match &self.device {
            Held::Own(mdev) => mdev,
            Held::Existing(device) => device,
        }
    }
}
