// SPDX-License-Identifier: GPL-2.0

//! How a device is made.

/// The settings that a device is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The mdev type, or the variant driver of a function.
    pub kind: String,
    /// Attributes that are set before the device is opened, as file and value.
    pub attributes: Vec<(String, String)>,
}

impl Recipe {
    /// A device of this type with default attributes.
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, attribute: &str, value: impl ToString) -> Self {
        self.attributes
            .push((attribute.to_owned(), value.to_string()));
        self
    }
}
