// SPDX-License-Identifier: GPL-2.0

//! Components: directories of the cache that are named after all that went into them.
//!
//! How a component is made is its recipe, `scripts/components/NAME.sh`. The head of a recipe declares what the component
//! is made from, each in one line:
//!
//! - `needs=(COMPONENT...)`: other components
//! - `packages=(GROUP... GROUP:GLOB...)`: Debian packages of the lock file
//! - `inputs=(FILE...)`: further files of the source tree
//!
//! The rest is the shell function `build`, which fills the component's directory.

use std::fs;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_host::vmm::Qemu;

use super::packages::Selection;
use crate::source::Source;

/// A component. They are in an order in which each comes after what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The root directory in which everything for the kernel is built.
    Toolchain,
    /// The stock kernel.
    Kernel,
    /// The source of the stock kernel.
    LinuxSource,
    /// A build tree against which modules for the stock kernel build.
    Kbuild,
    /// QEMU 7.2, which migrates through protocol v1.
    Qemu7_2,
    /// QEMU 10.0, which migrates through protocol v2.
    Qemu10_0,
    /// QEMU 11.1, which migrates through protocol v2 and runs the host VM.
    Qemu11_1,
    /// The programs of the migrated guest.
    GuestTools,
    /// A kernel with the checkers on, and a build tree for it.
    DebugKernel,
}

impl Component {
    pub const ALL: [Self; 9] = [
        Self::Toolchain,
        Self::Kernel,
        Self::LinuxSource,
        Self::Kbuild,
        Self::Qemu7_2,
        Self::Qemu10_0,
        Self::Qemu11_1,
        Self::GuestTools,
        Self::DebugKernel,
    ];

    /// What is set up ahead of time: all but the debug kernel, which takes ten minutes and only some tests use.
    pub const USUAL: [Self; 8] = [
        Self::Toolchain,
        Self::Kernel,
        Self::LinuxSource,
        Self::Kbuild,
        Self::Qemu7_2,
        Self::Qemu10_0,
        Self::Qemu11_1,
        Self::GuestTools,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Toolchain => "toolchain",
            Self::Kernel => "kernel",
            Self::LinuxSource => "linux-source",
            Self::Kbuild => "kbuild",
            Self::Qemu7_2 => "qemu-7.2",
            Self::Qemu10_0 => "qemu-10.0",
            Self::Qemu11_1 => "qemu-11.1",
            Self::GuestTools => "guest-tools",
            Self::DebugKernel => "debug-kernel",
        }
    }

    /// The component of this name, or else the names that there are.
    pub fn by_name(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            format!(
                "the components are {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }

    /// A QEMU by the name of its component, or else the names that there are.
    pub fn qemu_by_name(name: &str) -> Result<Self, String> {
        let qemus = Qemu::ALL.map(Self::from);
        let found = qemus.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| format!("the QEMUs are {}", qemus.map(Self::name).join(", ")))
    }
}

impl From<Qemu> for Component {
    fn from(qemu: Qemu) -> Self {
        match qemu {
            Qemu::V7_2 => Self::Qemu7_2,
            Qemu::V10_0 => Self::Qemu10_0,
            Qemu::V11_1 => Self::Qemu11_1,
        }
    }
}

/// What a component is made from.
#[derive(Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The recipe's text without comments.
    pub text: String,
    pub needs: Vec<Component>,
    pub packages: Vec<Selection>,
    /// Files of the source tree.
    pub inputs: Vec<String>,
}

impl Recipe {
    pub fn read(source: &Source, component: Component) -> Result<Self> {
        let path = source.join(format!("scripts/components/{}.sh", component.name()));
        let reading = || format!("reading {}", path.display());
        let text = fs::read_to_string(&path).with_context(reading)?;
        Self::parse(&text).with_context(reading)
    }

    fn parse(text: &str) -> Result<Self> {
        let text = without_comments(text);
        let needs = declared(&text, "needs")?.into_iter();
        let needs = needs.map(|name| Component::by_name(name).map_err(anyhow::Error::msg));
        let packages = declared(&text, "packages")?.into_iter();
        let inputs = declared(&text, "inputs")?.into_iter();
        Ok(Self {
            needs: needs.collect::<Result<_>>()?,
            packages: packages.map(Selection::new).collect(),
            inputs: inputs.map(str::to_owned).collect(),
            text,
        })
    }
}

/// The words that a recipe declares as `name`.
fn declared<'a>(text: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let head = format!("{name}=");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&head));
    let Some(line) = lines.next() else {
        return Ok(Vec::new());
    };
    let words = line
        .strip_prefix('(')
        .and_then(|line| line.strip_suffix(')'));
    let plain = |words: &&str| !words.contains(['$', '"', '\'', '`', '\\', '(', ')', '#', ';']);
    match words.filter(plain) {
        Some(words) if lines.next().is_none() => Ok(words.split_whitespace().collect()),
        _ => bail!("{name} is to be declared once, in one line of plain words: {name}=(...)"),
    }
}

/// Text without the lines that are comments, which make no difference. (A "# CONFIG_... is not set" does.)
pub fn without_comments(text: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.trim_start().starts_with('#') || line.starts_with("# CONFIG_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_has_a_recipe_and_comes_after_what_it_needs() {
        let source = Source::find(None).expect("the source tree");
        for component in Component::ALL {
            let recipe = Recipe::read(&source, component).expect("a recipe");
            for need in recipe.needs {
                assert!(need < component, "{need:?} of {component:?}");
            }
            assert!(recipe.text.contains("build() {"), "{component:?}");
        }
        let files = fs::read_dir(source.join("scripts/components")).expect("the recipes");
        assert_eq!(files.count(), Component::ALL.len());
    }

    #[test]
    fn declarations_are_read_from_one_line() {
        let recipe = Recipe::parse(
            "# packages=(no)\nneeds=(toolchain linux-source)\npackages=(linux:linux-headers-* qemu-7.2)\n\nbuild() {\n\t:\n}\n",
        );
        let recipe = recipe.expect("a recipe");
        assert_eq!(recipe.needs, [Component::Toolchain, Component::LinuxSource]);
        let packages = ["linux:linux-headers-*", "qemu-7.2"].map(Selection::new);
        assert_eq!(recipe.packages, packages);
        assert!(recipe.inputs.is_empty() && !recipe.text.contains("no"));
        for text in [
            "needs=(toolchain\nkernel)\n",
            "needs=($x)\n",
            "needs=(x)\n",
            "inputs=(a)\ninputs=(b)\n",
        ] {
            assert!(Recipe::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn comments_are_no_part_of_an_identity_but_unset_options_are() {
        let text = "a # b\n#c\n\t # d\n# CONFIG_E is not set\n #\n\nf";
        assert_eq!(without_comments(text), "a # b\n# CONFIG_E is not set\n\nf");
    }
}
