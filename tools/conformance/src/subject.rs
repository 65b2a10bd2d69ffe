// SPDX-License-Identifier: GPL-2.0

//! The device that a case runs on, in sysfs.

use core::ops::Deref;
use std::sync::Mutex;
use std::sync::PoisonError;

use vfio_client::Mdev;
use vfio_client::SysfsDevice;

use crate::check::Outcome;
use crate::check::Stop;
use crate::kind::Kind;
use crate::lease::Lease;

/// The device of one case: a mediated device of the case's own, which is removed with this object, or a
/// device that exists without the case.
#[derive(Debug)]
pub struct Subject {
    kind: Kind,
    device: Held,
    settings: Settings,
    /// Held until the settings are restored.
    _lease: Option<Lease>,
}

/// The attributes that a case has changed of a device that exists without the case. They are restored when
/// this object goes, which is after the device is closed.
#[derive(Debug)]
struct Settings {
    device: SysfsDevice,
    changed: Mutex<Vec<(String, String)>>,
}

impl Settings {
    fn of(device: &SysfsDevice) -> Self {
        Settings {
            device: device.clone(),
            changed: Mutex::default(),
        }
    }

    /// Remembers the present value of an attribute, unless an older one is remembered.
    fn remember(&self, name: &str) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.iter().all(|(known, _)| known != name) {
            // An attribute that cannot be read cannot be written, either.
            let value = self.device.attribute(name).ok();
            changed.extend(value.map(|value| (name.to_string(), value)));
        }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let changed = self
            .changed
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for (name, value) in changed {
            if let Err(error) = self.device.set_attribute(name, value.as_bytes()) {
                eprintln!("# {error}");
            }
        }
    }
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
            settings: Settings::of(&mdev),
            device: Held::Own(mdev),
            _lease: None,
        })
    }

    /// Takes a mediated device of another owner, who removes it.
    #[track_caller]
    pub fn existing(uuid: &str) -> Outcome<Self> {
        Subject::new(Mdev::existing(uuid))
    }

    /// Takes a device that exists without the case, for as long as the case has the lease.
    pub fn at(device: SysfsDevice, kind: Kind, lease: Lease) -> Self {
        Subject {
            kind,
            settings: Settings::of(&device),
            device: Held::Existing(device),
            _lease: Some(lease),
        }
    }

    /// Writes an attribute. Of a device that exists without the case, it is restored after the case.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_attribute(&self, name: &str, value: &[u8]) -> vfio_client::Result<()> {
        if let Held::Existing(_) = self.device {
            self.settings.remember(name);
        }
        self.deref().set_attribute(name, value)
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
