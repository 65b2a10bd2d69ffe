// SPDX-License-Identifier: GPL-2.0

//! Finds kernel modules and what they depend on.

use std::collections::HashMap;
use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

/// A module, decompressed.
pub struct Module {
    /// With underscores in place of hyphens.
    pub name: String,
    pub content: Vec<u8>,
}

/// The modules of some directories.
pub struct Modules {
    files: HashMap<String, PathBuf>,
    builtin: Vec<String>,
}

/// The name of the module in a file, or nothing if the file is no module.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let name = name
        .strip_suffix(".ko")
        .or_else(|| name.strip_suffix(".ko.xz"))?;
    Some(name.replace('-', "_"))
}

fn collect(directory: &Path, depth: usize, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let listing = || format!("listing {}", directory.display());
    for entry in fs::read_dir(directory).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let path = entry.path();
        if entry.file_type().with_context(listing)?.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, files)?;
            }
        } else if let Some(name) = module_name(&path) {
            files.entry(name).or_insert(path);
        }
    }
    Ok(())
}

impl Modules {
    /// The modules in `own`, which go first, and those of the kernel in `kernel`.
    pub fn find(own: &[&Path], kernel: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        for own in own {
            // Not recursively: build trees below have modules of their own.
            collect(own, 0, &mut files)?;
        }
        // A kernel's modules are nested a few directories deep; the limit guards against loops.
        collect(kernel, 16, &mut files)?;
        let builtin = fs::read_to_string(kernel.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// The module `name` and all modules that it depends on, in loading order. Modules that are built into the kernel
    /// are left out.
    pub fn closure(&self, name: &str) -> Result<Vec<Module>> {
        let mut loaded = Vec::new();
        self.add(name, &mut loaded, 0)?;
        Ok(loaded)
    }

    fn add(&self, name: &str, loaded: &mut Vec<Module>, depth: usize) -> Result<()> {
        if depth > 32 {
            bail!("the module {name} needs itself");
        }
        if loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            if self.builtin.iter().any(|builtin| builtin == name) {
                return Ok(());
            }
            bail!("there is no module {name}");
        };
        let content = read(path)?;
        for needed in dependencies(&content) {
            self.add(&needed, loaded, depth + 1)?;
        }
        loaded.push(Module {
            name: name.to_owned(),
            content,
        });
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    if path.extension().is_some_and(|extension| extension == "xz") {
        let mut packed = BufReader::new(fs::File::open(path).with_context(reading)?);
        let mut content = Vec::new();
        lzma_rs::xz_decompress(&mut packed, &mut content)
            .map_err(|error| anyhow::anyhow!("unpacking {}: {error:?}", path.display()))?;
        Ok(content)
    } else {
        fs::read(path).with_context(reading)
    }
}

/// The names in the module's `depends=` field.
fn dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(start) = module
        .windows(FIELD.len())
        .position(|window| window == FIELD)
    else {
        return Vec::new();
    };
    let value = &module[start + FIELD.len()..];
    let end = value
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF..license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    #[test]
    fn dependencies_come_before_what_needs_them() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, depends) in [("a", "b,c-d"), ("b", "c-d"), ("c-d", "")] {
            let path = directory.path().join(format!("{name}.ko"));
            fs::write(path, module(depends)).expect("write");
        }
        let modules = Modules::find(&[], directory.path()).expect("find");
        let order: Vec<_> = modules
            .closure("a")
            .expect("closure")
            .into_iter()
            .map(|module| module.name)
            .collect();
        assert_eq!(order, ["c_d", "b", "a"]);
        assert!(modules.closure("missing").is_err());
    }
}
