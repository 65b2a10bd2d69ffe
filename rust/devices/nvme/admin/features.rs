// SPDX-License-Identifier: GPL-2.0

//! Set Features and Get Features, sections 5.21 and 5.13.

use device_model::BlockBackend;

use super::Outcome;
use crate::executor::Executor;
use crate::features::{
    capabilities,
    Features, //
};
use crate::io::flush;
use crate::parameters::NSID;
use crate::spec::command::{
    Command,
    NSID_ALL, //
};
use crate::spec::event::Event;
use crate::spec::feature::{
    Feature,
    Select,
    SAVE, //
};
use crate::spec::status::Status;

impl Executor {
    /// Set Features, section 5.21.
    pub(super) fn set_features<B: BlockBackend + ?Sized>(
        &mut self,
        command: &Command,
        backend: &mut B,
    ) -> Outcome {
        let feature = Feature::decode(command.cdw10())?;
        if command.cdw10() & SAVE != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        check_namespace(command, feature)?;
        if feature == Feature::QueueCount && self.queues.has_io() {
            return Err(Status::SEQUENCE);
        }

        let pairs = self.parameters.queue_pairs;
        let mut features = self.features.clone();
        let result = features.set(feature, command.cdw11(), pairs)?;
        if self.features.write_cache && !features.write_cache {
            flush(backend)?;
        }
        self.features = features;
        // A warning is reported once until its log is read, as long as its reason lasts.
        let concerns_warnings = [Feature::TemperatureThreshold, Feature::AsyncEvents];
        if concerns_warnings.contains(&feature) && self.features.reports(self.features.warnings()) {
            self.events.raise(Event::Temperature);
        }
        Ok(Some(result))
    }

    /// Get Features, section 5.13.
    pub(super) fn get_features(&mut self, command: &Command) -> Outcome {
        let feature = Feature::decode(command.cdw10())?;
        // All namespaces together have no value, even if there is only one.
        if feature.is_of_namespace() && command.nsid != NSID {
            return Err(Status::INVALID_NAMESPACE);
        }
        let pairs = self.parameters.queue_pairs;
        let value = match Select::decode(command.cdw10())? {
            Select::Current => self.features.get(feature, command.cdw11(), pairs)?,
            Select::Default => Features::default().get(feature, command.cdw11(), pairs)?,
            Select::Capabilities => capabilities(feature),
        };
        Ok(Some(value))
    }
}

/// Checks that Set Features names a namespace if each namespace has a value of the feature, and none if
/// not.
fn check_namespace(command: &Command, feature: Feature) -> Result<(), Status> {
    match command.nsid {
        NSID_ALL => Ok(()),
        NSID if feature.is_of_namespace() => Ok(()),
        NSID => Err(Status::NOT_NAMESPACE_SPECIFIC),
        0 if !feature.is_of_namespace() => Ok(()),
        _ => Err(Status::INVALID_NAMESPACE),
    }
}
