// SPDX-License-Identifier: GPL-2.0

//! Checks of the source that no compiler makes: licences, and where `unsafe` may be.

mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_host::event::Outcome;

use crate::matrix;

/// A file names its licence within this number of lines from its top.
const HEAD: usize = 3;

const LICENCE: &str = "SPDX-License-Identifier: GPL-2.0";

/// The only places that may have `unsafe` blocks.
const UNSAFE_PLACES: [&str; 4] = [
    "rust/kernel_ext/",
    "rust/vfio/",
    "rust/bindings/",
    "tools/vfio-client/",
];

/// The attribute of all other crates.
const FORBIDS: &str = "#![forbid(unsafe_code)]";

/// The crate whose `unsafe` code is that of the kernel's macro for KUnit tests.
const KUNIT: &str = "rust/kunit/";

/// Files that cannot have a licence line: texts of licences, and files that cargo writes.
const WITHOUT_LICENCE: [&str; 3] = ["COPYING", "LICENSES/", "Cargo.lock"];

/// Statements of the protocol that have to be named by a test.
const STATEMENTS: std::ops::RangeInclusive<u32> = 1..=48;

/// The document that has the table of what is tested.
const README: &str = "README.md";

/// All files of the source that are text, as path and content.
fn files(source: &Path) -> Result<Vec<(String, String)>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(source)
        .output()
        .context("running git")?;
    if !output.status.success() {
        bail!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let mut files = Vec::new();
    for name in output
        .stdout
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        // Files that are deleted but not committed, and files that are no text, are not checked.
        let Ok(content) = fs::read(source.join(&name)) else {
            continue;
        };
        if let Ok(content) = String::from_utf8(content) {
            files.push((name, content));
        }
    }
    Ok(files)
}

fn outcome(faults: Vec<String>) -> Outcome {
    if faults.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(faults.join("\n"))
    }
}

/// Every file names its licence.
fn licences(files: &[(String, String)]) -> Outcome {
    let exempt = |name: &str| WITHOUT_LICENCE.iter().any(|place| name.starts_with(place));
    outcome(
        files
            .iter()
            .filter(|(name, _)| !exempt(name))
            .filter(|(_, text)| !text.lines().take(HEAD).any(|line| line.contains(LICENCE)))
            .map(|(name, _)| format!("{name}: no \"{LICENCE}\" in its first {HEAD} lines"))
            .collect(),
    )
}

/// Whether a line of code, without its comment, has the word `unsafe` as code has it.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "unsafe trait",
    ]
    .iter()
    .any(|form| code.contains(form))
}

/// Only the allowed places have `unsafe`, and each block says why it is sound.
fn unsafe_places(files: &[(String, String)]) -> Outcome {
    let mut faults = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".rs")) {
        let allowed = UNSAFE_PLACES.iter().any(|place| name.starts_with(place));
        // Strings of this file have the words.
        if name.ends_with("lab/src/policy.rs") {
            continue;
        }
        let lines: Vec<_> = text.lines().collect();
        for (index, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| has_unsafe(line))
        {
            let at = format!("{name}:{}", index + 1);
            if !allowed {
                let places = UNSAFE_PLACES.join(", ");
                faults.push(format!("{at}: unsafe code outside of {places}"));
            } else if line.contains("unsafe {") && !is_justified(&lines, index) {
                faults.push(format!("{at}: an unsafe block without a SAFETY comment"));
            }
        }
    }
    outcome(faults)
}

/// The root files of crates, as Kbuild and cargo name them, except for those of host tests.
fn crate_roots(files: &[(String, String)]) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    for (name, text) in files {
        if name == "Kbuild" {
            let objects = text.split_whitespace();
            let stems = objects.filter_map(|word| word.trim_end_matches(')').strip_suffix(".o"));
            roots.extend(stems.map(|stem| format!("{stem}.rs")));
        } else if let Some(directory) = name.strip_suffix("Cargo.toml") {
            let paths = text.lines().filter_map(|line| {
                let path = line.strip_prefix("path = \"")?.strip_suffix('"')?;
                Some(path).filter(|path| !path.starts_with("tests/"))
            });
            let paths = paths.chain(["src/lib.rs", "src/main.rs"]);
            roots.extend(paths.map(|path| format!("{directory}{path}")));
        }
    }
    roots.retain(|root| files.iter().any(|(name, _)| name == root));
    roots
}

/// The compiler refuses `unsafe` code in the crates that must not have any.
fn forbidden(files: &[(String, String)]) -> Outcome {
    let roots = crate_roots(files);
    let may = |name: &str| {
        let mut places = UNSAFE_PLACES.into_iter().chain([KUNIT]);
        places.any(|place| name.starts_with(place))
    };
    outcome(
        files
            .iter()
            .filter(|(name, _)| roots.contains(name) && !may(name))
            .filter(|(_, text)| !text.lines().any(|line| line == FORBIDS))
            .map(|(name, _)| format!("{name}: a crate without {FORBIDS}"))
            .collect(),
    )
}

/// Whether a `SAFETY:` comment stands within a few lines above the line.
fn is_justified(lines: &[&str], index: usize) -> bool {
    const REACH: usize = 12;
    lines[index.saturating_sub(REACH)..=index]
        .iter()
        .any(|line| line.contains("SAFETY:"))
}

/// Every statement of the protocol that a user can see is named by a test.
fn statements(files: &[(String, String)]) -> Outcome {
    let mut named = BTreeSet::<u32>::new();
    for (_, text) in files.iter().filter(|(name, _)| name.ends_with(".rs")) {
        for (at, _) in text.match_indices("v1_") {
            if let Some(number) = text.get(at + 3..at + 5).and_then(|text| text.parse().ok()) {
                named.insert(number);
            }
        }
    }
    outcome(
        STATEMENTS
            .filter(|number| !named.contains(number))
            .map(|number| format!("statement {number}: no test is named v1_{number:02}_..."))
            .collect(),
    )
}

/// All checks, as name and outcome.
pub fn check(source: &Path) -> Vec<(&'static str, Outcome)> {
    let files = match files(source) {
        Ok(files) => files,
        Err(error) => {
            let why = format!("{error:#}: the source has to be a clone that git can list");
            return vec![("the source can be listed", Outcome::Failed(why))];
        }
    };
    let mut checks = vec![
        ("every file names its licence", licences(&files)),
        (
            "unsafe code is in its place and justified",
            unsafe_places(&files),
        ),
        (
            "the crates without unsafe code forbid it",
            forbidden(&files),
        ),
        (
            "every statement of the protocol is named by a test",
            statements(&files),
        ),
        (
            "the README tells which QEMU is tested with which device",
            matrix_in_readme(&files, &matrix::tested()),
        ),
    ];
    checks.extend(documents::check(&files));
    checks
}

/// The README has this table.
fn matrix_in_readme(files: &[(String, String)], table: &str) -> Outcome {
    let has = |(name, text): &(String, String)| name == README && text.contains(table);
    if files.iter().any(has) {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{README} should have this table:\n{table}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), text.to_owned())]
    }

    #[test]
    fn a_source_that_git_cannot_list_fails() {
        let outcomes = check(Path::new("/proc"));
        assert!(
            matches!(&*outcomes, [(_, Outcome::Failed(_))]),
            "expected one failure, saw {outcomes:?}"
        );
    }

    #[test]
    fn this_tree_passes() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        for (name, outcome) in check(Path::new(source)) {
            assert_eq!(outcome, Outcome::Passed, "{name}");
        }
    }

    #[test]
    fn each_place_of_unsafe_code_has_rust_files() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let files = files(Path::new(source)).expect("the source");
        for place in UNSAFE_PLACES {
            let is_there =
                |(name, _): &(String, String)| name.starts_with(place) && name.ends_with(".rs");
            assert!(files.iter().any(is_there), "{place}");
        }
    }

    #[test]
    fn a_crate_that_does_not_forbid_unsafe_code_is_seen() {
        let tree = |attribute: &str| {
            let mut files = file("Kbuild", "a-y := rust/a/a.o\n$(call x,rust/vfio/vfio.o)\n");
            files.extend(file(
                "rust/a/Cargo.toml",
                "path = \"a.rs\"\npath = \"tests/main.rs\"\n",
            ));
            files.extend(file("rust/a/a.rs", attribute));
            for other in [
                "rust/a/tests/main.rs",
                "rust/a/part.rs",
                "rust/vfio/vfio.rs",
            ] {
                files.extend(file(other, ""));
            }
            files
        };
        assert_eq!(forbidden(&tree(FORBIDS)), Outcome::Passed);
        let expected = format!("rust/a/a.rs: a crate without {FORBIDS}");
        assert_eq!(forbidden(&tree("")), Outcome::Failed(expected));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let roots = crate_roots(&files(Path::new(source)).expect("the source"));
        for root in [
            "rust/devices/nvme/nvme.rs",
            "rust/drivers/ferry_uart.rs",
            "rust/ferry_core/ferry_core.rs",
            "tools/lab/src/main.rs",
            "tools/testing/selftests/vfio-migration/src/v2.rs",
        ] {
            assert!(roots.contains(root), "{root} in {roots:?}");
        }
    }

    #[test]
    fn a_missing_licence_is_seen() {
        assert_eq!(
            licences(&file("a.rs", &format!("// {LICENCE}\n"))),
            Outcome::Passed
        );
        assert!(matches!(
            licences(&file("a.rs", "fn main() {}\n")),
            Outcome::Failed(_)
        ));
    }

    #[test]
    fn a_readme_without_the_table_is_seen() {
        assert_eq!(
            matrix_in_readme(&file(README, "x\n| a |\n|---|\ny\n"), "| a |\n|---|\n"),
            Outcome::Passed
        );
        assert!(matches!(
            matrix_in_readme(&file(README, "| b |\n|---|\n"), "| a |\n|---|\n"),
            Outcome::Failed(_)
        ));
    }

    #[test]
    fn unsafe_code_is_seen_where_it_may_not_be() {
        let block = "// SAFETY: because.\nunsafe { f() }\n";
        assert_eq!(
            unsafe_places(&file("rust/vfio/a.rs", block)),
            Outcome::Passed
        );
        assert!(matches!(
            unsafe_places(&file("rust/uart/a.rs", block)),
            Outcome::Failed(_)
        ));
        let bare = "unsafe { f() }\n";
        assert!(matches!(
            unsafe_places(&file("rust/vfio/a.rs", bare)),
            Outcome::Failed(_)
        ));
    }
}
