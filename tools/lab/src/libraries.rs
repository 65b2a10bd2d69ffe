// SPDX-License-Identifier: GPL-2.0

//! Finds the shared libraries that a program in a root other than `/` needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use goblin::elf::Elf;

/// Where Debian has its libraries, below the root.
const DIRECTORIES: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib",
    "lib",
];

/// All libraries that `program` needs, as name and file. `root` is the root directory that the program sees.
pub fn needed(root: &Path, program: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut left = vec![program.to_owned()];
    while let Some(file) = left.pop() {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let elf = Elf::parse(&content).with_context(|| format!("parsing {}", file.display()))?;
        let mut directories: Vec<PathBuf> = elf
            .rpaths
            .iter()
            .chain(&elf.runpaths)
            .flat_map(|path| path.split(':'))
            .map(|path| root.join(path.trim_start_matches('/')))
            .collect();
        directories.extend(DIRECTORIES.iter().map(|directory| root.join(directory)));
        for name in &elf.libraries {
            if found.contains_key(*name) {
                continue;
            }
            let path = directories
                .iter()
                .map(|directory| directory.join(name))
                .find(|path| path.exists())
                .with_context(|| format!("{} needs {name}, not found", file.display()))?;
            found.insert((*name).to_owned(), path.clone());
            left.push(path);
        }
    }
    Ok(found)
}
