// SPDX-License-Identifier: GPL-2.0

//! What cases run on: a type of mediated device, or a device at an address.

use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use vfio_client::mdev::MdevType;
use vfio_client::Address;
use vfio_client::Backend;
use vfio_drivers::probe::Ids;

use crate::check::Outcome;
use crate::check::Stop;
use crate::kind::Kind;
use crate::lease::Pool;
use crate::requirement::Facts;
use crate::subject::Subject;

/// Where a case gets its device from.
#[derive(Clone, Debug)]
enum Source {
    /// It creates a mediated device.
    Type {
        /// The parent device in sysfs.
        parent: PathBuf,
    },
    /// It takes a device that exists.
    Devices(Pool),
}

/// What cases run on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name of the type, for example `ferry_uart-2`, or the address of the device.
    pub name: String,
    /// The kind of the device.
    pub kind: Kind,
    /// How the cases open the device, if they do not care.
    pub backend: Backend,
    source: Source,
    facts: OnceLock<Facts>,
}

impl Target {
    /// Takes a type of mediated device by its name, of the driver's own parent. `None` for an unknown type.
    pub fn of_type(type_name: &str) -> Option<Self> {
        let kind = Kind::of_type(type_name)?;
        Some(Target {
            name: type_name.to_string(),
            kind,
            backend: Backend::Type1,
            source: Source::Type {
                parent: kind.parent(),
            },
            facts: OnceLock::new(),
        })
    }

    /// Takes the device at the first of some addresses, which is opened once, to tell its kind. The others are
    /// of the same kind, for cases that need several at once.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened, and how to mend that.
    pub fn at(addresses: &[Address], backend: Backend) -> vfio_drivers::Result<Self> {
        let kind = |address: &Address| -> vfio_drivers::Result<Kind> {
            let device = address.find()?;
            let session = backend.open(&device)?;
            let ids = Ids::read(session.device())?;
            Ok(Kind::of_ids(ids).with_driver(device.driver().ok().as_deref()))
        };
        let [first, others @ ..] = addresses else {
            return Err(vfio_drivers::Error::Differs("no address".into()));
        };
        let expected = kind(first)?;
        for other in others {
            vfio_drivers::compare::same(
                format_args!("{other}: kind, that of {first}"),
                kind(other)?,
                expected,
            )?;
        }
        Ok(Target {
            name: first.to_string(),
            kind: expected,
            backend,
            source: Source::Devices(Pool::new(addresses.iter().cloned())),
            facts: OnceLock::new(),
        })
    }

    /// Returns the same type of another parent, which is at a path in sysfs. A device at an address stays
    /// what it is.
    pub fn of_parent(self, path: &Path) -> Self {
        Target {
            source: match self.source {
                Source::Type { .. } => Source::Type {
                    parent: path.into(),
                },
                device => device,
            },
            ..self
        }
    }

    /// Returns the same target, to be opened through the character device.
    pub fn through_cdev(&self) -> Self {
        Target {
            backend: Backend::Iommufd,
            ..self.clone()
        }
    }

    /// Returns why the target is not there, or `None` if it is.
    pub fn absence(&self) -> Option<String> {
        match &self.source {
            Source::Type { parent } => {
                if MdevType::new(parent, &self.name).exists() {
                    return None;
                }
                Some(format!(
                    "no {} at {}; is {} loaded?",
                    self.name,
                    parent.display(),
                    self.kind.driver()
                ))
            }
            Source::Devices(pool) => pool
                .addresses()
                .iter()
                .find_map(|address| address.find().err())
                .map(|error| error.to_string()),
        }
    }

    /// Returns the facts about the target's devices, gathered on the first call.
    ///
    /// # Errors
    ///
    /// Why they cannot be gathered.
    pub fn facts(&self) -> Outcome<&Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let facts = Facts::gather(&self.subject()?, self)?;
        Ok(self.facts.get_or_init(|| facts))
    }

    /// Says whether a case can have two devices at once.
    pub fn has_pair(&self) -> bool {
        match &self.source {
            Source::Type { .. } => true,
            Source::Devices(pool) => pool.addresses().len() > 1,
        }
    }

    /// Says whether a case can create devices.
    pub fn is_type(&self) -> bool {
        matches!(self.source, Source::Type { .. })
    }

    /// Creates a mediated device for a case, or takes a device that exists and that the case does not have
    /// already.
    #[track_caller]
    pub fn subject(&self) -> Outcome<Subject> {
        match &self.source {
            Source::Type { .. } => Subject::new(self.mdev_type()?.create()?),
            Source::Devices(pool) => {
                let (address, lease) = pool.lease().ok_or_else(|| {
                    Stop::failed(format_args!(
                        "the case needs more than {} devices at once",
                        pool.addresses().len()
                    ))
                })?;
                Ok(Subject::at(address.find()?, self.kind, lease))
            }
        }
    }

    /// Returns the type of mediated device, of a target that is one.
    pub fn mdev_type(&self) -> Outcome<MdevType> {
        match &self.source {
            Source::Type { parent } => Ok(MdevType::new(parent, &self.name)),
            Source::Devices(_) => Err(Stop::Skipped(format!(
                "{} is no type of mediated device",
                self.name
            ))),
        }
    }

    /// Returns the other types of the same parent.
    #[track_caller]
    pub fn other_types(&self) -> Outcome<Vec<MdevType>> {
        let Source::Type { parent } = &self.source else {
            return Ok(Vec::new());
        };
        let types = std::fs::read_dir(parent.join("mdev_supported_types"))
            .map_err(|error| Stop::failed(format_args!("{}: {error}", parent.display())))?;
        Ok(types
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| *name != self.name)
            .map(|name| MdevType::new(parent, &name))
            .collect())
    }

    /// Returns how many ports a serial card has, 0 for another device.
    pub fn ports(&self) -> u8 {
        match self.kind {
            Kind::Uart { ports } => ports,
            Kind::Mtty => 1,
            Kind::Nvme { .. } | Kind::E1000e | Kind::Other => 0,
        }
    }

    /// Returns the size of a controller's logical block as a power of two, 0 for another device.
    pub fn shift(&self) -> u8 {
        match self.kind {
            Kind::Nvme { shift } => shift,
            Kind::Uart { .. } | Kind::Mtty | Kind::E1000e | Kind::Other => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use vfio_client::Address;
    use vfio_client::Backend;

    use super::Target;

    #[test]
    fn a_target_that_is_not_there_says_so() {
        let target = Target::of_type("ferry_uart-2").expect("a known type");
        let target = target.of_parent("/nowhere".as_ref());
        let expected = "no ferry_uart-2 at /nowhere; is ferry_uart loaded?";
        assert_eq!(target.absence().as_deref(), Some(expected));
        let address: Address = "/sys/nowhere".parse().expect("a path");
        let error = Target::at(&[address], Backend::Type1).expect_err("nothing is there");
        assert!(error.to_string().contains("/sys/nowhere"), "{error}");
    }
}
