// SPDX-License-Identifier: GPL-2.0

//! The two migration protocols, and the one that a device offers or is using.

use core::{
    fmt::{
        self,
        Display, //
    },
    str::FromStr, //
};
use kernel::prelude::*;
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// Protocol v1, the migration region.
    V1,
    /// Protocol v2, `VFIO_DEVICE_FEATURE_MIGRATION`.
    V2,
}

impl Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// The protocols that a device offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocols {
    /// Both, of which the one that is used first is the only one until the next reset.
    Any,
    /// One of them.
    Only(Protocol),
}

impl Protocols {
    pub(crate) fn offer(self, protocol: Protocol) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only == protocol,
        }
    }
}

impl Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(protocol) => protocol.fmt(f),
        }
    }
}

impl FromStr for Protocols {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "any" => Ok(Self::Any),
            "v1" => Ok(Self::Only(Protocol::V1)),
            "v2" => Ok(Self::Only(Protocol::V2)),
            _ => Err(EINVAL),
        }
    }
}

/// Why a protocol cannot be used.
pub(crate) enum ProtocolRefusal {
    /// The administrator has excluded `wanted`.
    NotOffered { wanted: Protocol },
    /// The other protocol, `used`, has been used since the last reset.
    OtherInUse { wanted: Protocol, used: Protocol },
}

impl ProtocolRefusal {
    fn error(&self) -> Error {
        match self {
            Self::NotOffered { .. } => EOPNOTSUPP,
            Self::OtherInUse { .. } => EBUSY,
        }
    }

    /// Logs the refusal and returns its error.
    pub(crate) fn report(&self, device: &impl Refuse) -> Error {
        device.refused(Subject::Transition, "migration", self, self.error())
    }
}

impl Display for ProtocolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered { wanted } => {
                write!(f, "the device does not offer protocol {wanted}")
            }
            Self::OtherInUse { wanted, used } => write!(
                f,
                "protocol {wanted} cannot be used before the next reset, as {used} has been"
            ),
        }
    }
}
