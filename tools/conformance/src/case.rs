// SPDX-License-Identifier: GPL-2.0

//! A case: a name that says what it proves, what it requires, and the proof.

use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The name.
    pub name: &'static str,
    /// The requirements of all cases of a list, and the case's own.
    pub requires: [&'static [Requirement]; 2],
    /// The proof.
    pub run: fn(&Target) -> Outcome,
}

impl Case {
    /// Returns all requirements of the case.
    pub fn requirements(&self) -> impl Iterator<Item = Requirement> {
        self.requires.into_iter().flatten().copied()
    }

    /// Says whether the case is about devices such as the target's. A case about another kind of
    /// device is not skipped, but no part of the plan.
    pub fn concerns(&self, target: &Target) -> bool {
        self.requirements()
            .all(|requirement| requirement.concerns(target.kind))
    }
}

/// Makes a list of cases from functions, each under the function's name. First come the requirements of all
/// cases of the list; a case's own requirements follow its name.
macro_rules! cases {
    ($shared:expr; $($function:ident $([$($own:ident),+])?),+ $(,)?) => {
        &[$($crate::case::Case {
            name: stringify!($function),
            requires: [$shared, &[$($($crate::requirement::Requirement::$own),+)?]],
            run: $function,
        }),+]
    };
}
pub(crate) use cases;
