// SPDX-License-Identifier: GPL-2.0

//! The identity of a component: the hash of its recipe, of the cache's path, and of all that it is made from. Two
//! components with the same identity are the same, so what the cache has under it is never made again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use super::component::without_comments;
use super::component::Component;
use super::component::Recipe;
use super::hash::hash;
use super::packages::Packages;
use crate::cache::Cache;
use crate::source::Source;

/// Where each component is, or will be.
pub fn paths(
    source: &Source,
    cache: &Cache,
    packages: &Packages,
) -> Result<BTreeMap<Component, PathBuf>> {
    let mut paths = BTreeMap::<Component, PathBuf>::new();
    for component in Component::ALL {
        let recipe = Recipe::read(source, component)?;
        let mut text = recipe.text;
        // A prepared build tree holds absolute paths.
        text.push_str(&format!("cache {}\n", cache.directory().display()));
        for need in &recipe.needs {
            let path = paths.get(need).with_context(|| {
                format!(
                    "{} needs {}, which comes later",
                    component.name(),
                    need.name()
                )
            })?;
            text.push_str(&format!("{}\n", path.display()));
        }
        for selection in &recipe.packages {
            for pin in packages.selected(selection)? {
                text.push_str(&format!("{pin}\n"));
            }
        }
        for input in &recipe.inputs {
            let path = source.join(input);
            let input =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            text.push_str(&without_comments(&input));
        }
        paths.insert(
            component,
            cache.component(component.name(), &hash(text.as_bytes())),
        );
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::versions::Versions;

    /// A source tree with the recipes that there are, but `toolchain` and `kbuild` as given, and no other packages.
    fn keys(
        toolchain: &str,
        kbuild: &str,
        input: &str,
        cache: &Cache,
    ) -> BTreeMap<Component, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("write");
        };
        let sha = "0".repeat(64);
        write(
            "scripts/versions.lock",
            &format!("group g each s\nwant g x 1\npin g s x 1 all 1 {sha} p\npin g s y 1 all 1 {sha} p\n"),
        );
        for component in Component::ALL {
            let text = match component {
                Component::Toolchain => toolchain,
                Component::Kbuild => kbuild,
                _ => "build() {\n}\n",
            };
            write(&format!("scripts/components/{}.sh", component.name()), text);
        }
        write("input", input);
        let source = Source::find(Some(directory.path())).expect("a source tree");
        let versions = Versions::read(&source.versions()).expect("a lock file");
        let packages = Packages::load(versions, cache).expect("packages");
        let paths = paths(&source, cache, &packages).expect("paths").into_iter();
        paths
            .map(|(component, path)| (component, path.display().to_string()))
            .collect()
    }

    #[test]
    fn an_identity_is_the_hash_of_all_that_goes_in() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::at(directory.path()).expect("a cache");
        let toolchain = "# a comment\npackages=(g:x)\nbuild() {\n\t:\n}\n";
        let kbuild = "needs=(toolchain)\ninputs=(input)\nbuild() {\n}\n";
        let keys_of =
            |toolchain: &str, kbuild: &str, input: &str| keys(toolchain, kbuild, input, &cache);
        let first = keys_of(toolchain, kbuild, "# comment\nx\n");

        // What the shell hashed, line by line.
        let place = cache.directory().display();
        let text = format!(
            "packages=(g:x)\nbuild() {{\n\t:\n}}\ncache {place}\ns x 1 all 1 {} p\n",
            "0".repeat(64)
        );
        let path = format!("{place}/toolchain-{}", hash(text.as_bytes()));
        assert_eq!(first[&Component::Toolchain], path);
        let text = format!("{kbuild}cache {place}\n{path}\nx\n");
        assert_eq!(
            first[&Component::Kbuild],
            format!("{place}/kbuild-{}", hash(text.as_bytes()))
        );

        assert_eq!(
            first,
            keys_of(&toolchain.replace("a comment", "another"), kbuild, "x\n")
        );
        let changed = |other: BTreeMap<Component, String>| {
            let all = Component::ALL.into_iter();
            all.filter(|it| first[it] != other[it]).collect::<Vec<_>>()
        };
        assert_eq!(
            changed(keys_of(&toolchain.replace("g:x", "g"), kbuild, "x\n")),
            [Component::Toolchain, Component::Kbuild]
        );
        assert_eq!(
            changed(keys_of(toolchain, kbuild, "y\n")),
            [Component::Kbuild]
        );
    }
}
