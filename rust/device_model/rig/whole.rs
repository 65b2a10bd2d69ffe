// SPDX-License-Identifier: GPL-2.0

//! Both halves of a device model as one value, as tests want to have it.

use std::ops::{
    Deref,
    DerefMut, //
};

use device_model::{
    DeviceModel,
    Link, //
};

/// A device model with its executor. Accesses are those of the model; the halves exchange what they have to before and
/// after each step that concerns both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole<M: DeviceModel> {
    /// The registers.
    pub model: M,
    /// The executor.
    pub executor: M::Executor,
}

impl<M: DeviceModel> Whole<M> {
    /// Returns a device after power-on.
    ///
    /// # Errors
    ///
    /// The model's refusal of the parameters.
    pub fn power_on(parameters: &M::Parameters) -> Result<Self, M::ParameterError> {
        let model = M::power_on(parameters)?;
        let executor = model.executor();
        let mut whole = Self { model, executor };
        whole.exchange();
        Ok(whole)
    }

    /// Exchanges what the halves have to know of each other.
    pub fn exchange(&mut self) {
        self.model.exchange(&mut self.executor);
    }

    /// Saves the device, see [`DeviceModel::save`].
    pub fn save(&mut self, out: &mut [u8]) -> Option<usize> {
        self.exchange();
        self.model.save(&self.executor, out)
    }

    /// Loads a state, see [`DeviceModel::load`].
    ///
    /// # Errors
    ///
    /// The model's refusal.
    pub fn load(&mut self, state: &[u8]) -> Result<(), M::LoadError> {
        self.model.load(&mut self.executor, state)
    }

    /// Has `work` done by the executor, between two exchanges.
    pub fn work<R>(&mut self, work: impl FnOnce(&mut M::Executor) -> R) -> R {
        self.exchange();
        let result = work(&mut self.executor);
        self.exchange();
        result
    }
}

impl<M: DeviceModel<Executor = ()>> From<M> for Whole<M> {
    fn from(model: M) -> Self {
        Self {
            model,
            executor: (),
        }
    }
}

impl<M: DeviceModel> Deref for Whole<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M: DeviceModel> DerefMut for Whole<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.model
    }
}

/// A link to registers that nobody accesses while the executor works.
#[derive(Clone, Copy, Debug)]
pub struct Undisturbed;

impl<E> Link<E> for Undisturbed {
    fn exchange(&mut self, _executor: &mut E) -> bool {
        true
    }

    fn is_current(&self) -> bool {
        true
    }
}
