// SPDX-License-Identifier: GPL-2.0

//! Set Features and Get Features, sections 5.21 and 5.13.

use core::ops::Range;

use device_model::Stores;

use super::Outcome;
use crate::executor::Executor;
use crate::features::{
    capabilities,
    Features, //
};
use crate::io::flush_all;
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
    pub(super) fn set_features<M, S: Stores<M> + ?Sized>(
        &mut self,
        command: &Command,
        stores: &mut S,
    ) -> Outcome {
        let feature = Feature::decode(command.cdw10())?;
        if command.cdw10() & SAVE != 0 {
            return Err(Status::NOT_SAVEABLE);
        }
        let namespaces = self.features_of(command, feature)?;
        if feature == Feature::QueueCount && self.queues.has_io() {
            return Err(Status::SEQUENCE);
        }

        let pairs = self.parameters.queue_pairs;
        let mut features = self.features.clone();
        let result = features.set(feature, namespaces, command.cdw11(), pairs)?;
        if self.features.write_cache && !features.write_cache {
            flush_all(stores)?;
        }
        self.features = features;
        if [Feature::Coalescing, Feature::VectorConfiguration].contains(&feature) {
            // They may not have to wait any more.
            self.announce_held_back();
        }
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
        let namespace = match self.namespace(command.nsid) {
            Some(namespace) => namespace.index,
            // All namespaces together have no value, even if there is only one.
            None if feature.is_of_namespace() => return Err(Status::INVALID_NAMESPACE),
            None => 0,
        };
        let pairs = self.parameters.queue_pairs;
        let value = match Select::decode(command.cdw10())? {
            Select::Current => self
                .features
                .get(feature, namespace, command.cdw11(), pairs)?,
            Select::Default => {
                Features::default().get(feature, namespace, command.cdw11(), pairs)?
            }
            Select::Capabilities => capabilities(feature),
        };
        Ok(Some(value))
    }

    /// Returns the numbers of the namespaces whose value Set Features changes. It has to name a namespace if each namespace
    /// has a value of the feature, and none if not.
    fn features_of(&self, command: &Command, feature: Feature) -> Result<Range<usize>, Status> {
        match (command.nsid, self.namespace(command.nsid)) {
            (NSID_ALL, _) => Ok(0..self.parameters.count()),
            (_, Some(namespace)) if feature.is_of_namespace() => {
                Ok(namespace.index..namespace.index + 1)
            }
            (_, Some(_)) => Err(Status::NOT_NAMESPACE_SPECIFIC),
            (0, None) if !feature.is_of_namespace() => Ok(0..0),
            _ => Err(Status::INVALID_NAMESPACE),
        }
    }
}
