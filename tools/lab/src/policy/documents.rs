// SPDX-License-Identifier: GPL-2.0

//! The names in documents exist: paths of this tree, targets of make, subcommands and options of
//! `lab`, packages of cargo. Each scenario is described.
//!
//! Documents are `Documentation/` and the Markdown files at the root. A path is checked wherever a
//! document has it, a command where it is marked as code: between backquotes, or in an indented block.

use std::collections::BTreeSet;

use clap::Command;
use clap::CommandFactory;
use lab_host::event::Outcome;
use lab_host::scenario::Scenario;

use super::outcome;
use crate::Arguments;

/// Directories of this tree whose names begin a path.
const ROOTS: [&str; 9] = [
    "Documentation/",
    "LICENSES/",
    "findings/",
    "fuzz/",
    "include/",
    "packaging/",
    "rust/",
    "scripts/",
    "tools/",
];

/// Beginnings of paths in the kernel's tree, which documents name as well.
const KERNEL_PATHS: [&str; 11] = [
    "Documentation/ABI/testing/sysfs-bus-vfio-mdev",
    "Documentation/driver-api/",
    "Documentation/rust/",
    "include/linux/",
    "include/trace/events/vfio.h",
    "include/uapi/",
    "rust/exports.c",
    "rust/kernel/",
    "rust/libmacros.so",
    "rust/*.rmeta",
    "tools/testing/selftests/vfio/",
];

/// Targets of the kernel's Makefile, which documents name as well.
const KERNEL_TARGETS: [&str; 1] = ["rustavailable"];

/// The part of a path that stands for a name of the reader's choice.
const PLACEHOLDER: &str = "foo";

/// The document that names files of a future kernel.
const UPSTREAMING: &str = "Documentation/upstreaming.rst";

/// A directory that this tree and the kernel's both have.
const KERNEL_HELPERS: &str = "rust/helpers/";

/// Columns by which a block of code is indented. A cell of a table begins further to the right.
const BLOCK_INDENT: std::ops::RangeInclusive<usize> = 2..=8;

/// The document that describes the scenarios.
const SCENARIOS: &str = "Documentation/testing.rst";

/// The file extensions by which a name without a directory is one of a file in this tree.
const EXTENSIONS: [&str; 3] = [".rs", ".rst", ".sh"];

/// All checks, as name and outcome.
pub fn check(files: &[(String, String)]) -> Vec<(&'static str, Outcome)> {
    vec![
        ("paths that documents name exist", paths(files)),
        ("commands that documents name exist", commands(files)),
        (
            "every scenario is described in the document on tests",
            scenarios(files),
        ),
    ]
}

fn is_document(name: &str) -> bool {
    name.starts_with("Documentation/") && !name.ends_with(".svg")
        || name.ends_with(".md") && !name.contains('/')
}

/// All lines of documents, each with where it is.
fn lines(files: &[(String, String)]) -> impl Iterator<Item = (String, &str, &str)> {
    files
        .iter()
        .filter(|(name, _)| is_document(name))
        .flat_map(|(name, text)| {
            text.lines()
                .enumerate()
                .map(move |(index, line)| (format!("{name}:{}", index + 1), name.as_str(), line))
        })
}

fn is_path_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_./-*{},".contains(character)
}

/// The words of a line that consist of characters of paths, each with the character after it.
fn words(line: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(is_path_character)?;
        let tail = &rest[start..];
        let end = tail
            .find(|character| !is_path_character(character))
            .unwrap_or(tail.len());
        rest = &tail[end..];
        Some((&tail[..end], rest.chars().next()))
    })
}

/// A word without the punctuation of the sentence around it.
fn trimmed(word: &str) -> &str {
    word.trim_end_matches(['.', ',', '-'])
        .trim_start_matches("./")
}

/// A path with alternatives in braces, `a/{b,c}`, as one path for each.
fn expanded(path: &str) -> Vec<String> {
    match path.split_once('{') {
        None => vec![path.to_owned()],
        Some((head, tail)) => match tail.split_once('}') {
            None => vec![path.to_owned()],
            Some((alternatives, tail)) => alternatives
                .split(',')
                .flat_map(|alternative| expanded(&format!("{head}{alternative}{tail}")))
                .collect(),
        },
    }
}

/// Whether the tree has a file or directory of this path, in which a `*` stands for anything. An object is
/// there if its source is.
fn exists(path: &str, names: &BTreeSet<&str>) -> bool {
    let path = path.trim_end_matches('/');
    if let Some(stem) = path.strip_suffix(".o") {
        return [".rs", ".c"]
            .iter()
            .any(|end| names.contains(format!("{stem}{end}").as_str()));
    }
    if let Some((head, tail)) = path.split_once('*') {
        return names.iter().any(|name| {
            name.strip_prefix(head)
                .is_some_and(|rest| rest.contains(tail))
        });
    }
    names.contains(path) || names.iter().any(|name| is_below(name, path))
}

fn is_below(name: &str, directory: &str) -> bool {
    name.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn is_of_kernel(path: &str, document: &str) -> bool {
    KERNEL_PATHS
        .iter()
        .any(|start| path.starts_with(start) || path == start.trim_end_matches('/'))
        || document == UPSTREAMING && path.starts_with(KERNEL_HELPERS)
}

/// Every path in a document is one of this tree, or of the kernel's.
fn paths(files: &[(String, String)]) -> Outcome {
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let base_names: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| name.rsplit('/').next())
        .collect();
    let mut faults = Vec::new();
    for (at, document, line) in lines(files) {
        for (word, next) in words(line) {
            // A placeholder, such as rust/<crate>/tests.
            if next == Some('<') {
                continue;
            }
            let path = trimmed(word);
            if is_of_kernel(path, document) || path.contains(PLACEHOLDER) {
                continue;
            }
            if ROOTS.iter().any(|root| path.starts_with(root)) {
                for path in expanded(path) {
                    if !exists(&path, &names) {
                        faults.push(format!("{at}: there is no {path}"));
                    }
                }
            } else if !path.contains(['/', '*', '{'])
                && EXTENSIONS
                    .iter()
                    .any(|end| path.strip_suffix(end).is_some_and(|stem| !stem.is_empty()))
                && document != UPSTREAMING
                && !base_names.contains(path)
            {
                faults.push(format!("{at}: no directory has a file {path}"));
            }
        }
        for target in links(line) {
            if !exists(&target, &names) {
                faults.push(format!(
                    "{at}: a link goes to {target}, which does not exist"
                ));
            }
        }
    }
    outcome(faults)
}

/// The targets of the Markdown links of a line that are in this tree.
fn links(line: &str) -> Vec<String> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .map(str::to_owned)
        .collect()
}

/// The pieces of a line that are code: what is between backquotes, and a line of an indented block.
fn code(line: &str) -> Vec<&str> {
    // Markdown's code, then that of reStructuredText, for which the first split gives empty pieces.
    let mut pieces: Vec<_> = line.split('`').skip(1).step_by(2).collect();
    pieces.extend(line.split("``").skip(1).step_by(2));
    let text = line.trim_start();
    if BLOCK_INDENT.contains(&(line.len() - text.len())) {
        pieces.push(text.trim_start_matches(['#', '$']));
    }
    pieces.iter().map(|piece| piece.trim()).collect()
}

/// The targets of all Makefiles.
fn targets(files: &[(String, String)]) -> BTreeSet<&str> {
    files
        .iter()
        .filter(|(name, _)| name == "Makefile" || name.ends_with("/Makefile"))
        .flat_map(|(_, text)| text.lines())
        // Those of the kselftests' lib.mk, which their Makefile includes where there is one.
        .chain(["run_tests:"])
        .filter(|line| !line.starts_with(['\t', '#', ' ', '.']))
        .filter_map(|line| line.split_once(':'))
        .filter(|(_, rest)| !rest.starts_with('='))
        .flat_map(|(targets, _)| targets.split_whitespace())
        .collect()
}

/// Whether a word can be the name of a target.
fn is_target(word: &str) -> bool {
    !word.is_empty()
        && word
            .chars()
            .all(|character| character.is_ascii_lowercase() || "_-".contains(character))
        && !word.starts_with('-')
}

/// The names of the packages of all manifests.
fn packages(files: &[(String, String)]) -> BTreeSet<&str> {
    files
        .iter()
        .filter(|(name, _)| name.ends_with("Cargo.toml"))
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.strip_prefix("name = \""))
        .filter_map(|name| name.strip_suffix('"'))
        .collect()
}

/// The long options of a command line, up to a `--` that ends them.
fn options(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .take_while(|word| *word != "--")
        .map(|word| word.trim_matches(['\'', '"', ',', '.']))
        .filter_map(|word| word.strip_prefix("--"))
        .map(|option| option.split('=').next().unwrap_or_default())
        .filter(|option| !option.is_empty())
}

fn has_option(command: &Command, name: &str) -> bool {
    name == "help"
        || command
            .get_arguments()
            .any(|argument| argument.get_long() == Some(name))
}

/// Every command in a document exists: a target of make, a subcommand of `lab`, the options of either,
/// a package of cargo.
fn commands(files: &[(String, String)]) -> Outcome {
    let targets = targets(files);
    let packages = packages(files);
    let mut lab = Arguments::command();
    // Options of the whole program become those of each subcommand.
    lab.build();
    // A target of make that hands ARGS to a subcommand of another name.
    let subcommand = |name: &str| {
        let name = if name == "test-debug" { "test" } else { name };
        lab.find_subcommand(name)
    };
    let mut faults = Vec::new();
    for (at, _, line) in lines(files) {
        for piece in code(line) {
            if let Some(rest) = piece.strip_prefix("make ") {
                // Options and variables are make's own; a line with O= or M= is for the kernel's Makefile.
                if rest.contains("O=") || rest.contains(" M=") {
                    continue;
                }
                let (words, arguments) = rest.split_once("ARGS=").unwrap_or((rest, ""));
                let named: Vec<_> = words
                    .split_whitespace()
                    .filter(|word| !word.contains('='))
                    .take_while(|word| is_target(word))
                    .collect();
                for target in &named {
                    if !targets.contains(target) && !KERNEL_TARGETS.contains(target) {
                        faults.push(format!("{at}: make has no target {target}"));
                    }
                }
                if let Some(command) = named.first().and_then(|name| subcommand(name)) {
                    for option in options(arguments) {
                        if !has_option(command, option) {
                            faults.push(format!(
                                "{at}: lab {} has no option --{option}",
                                command.get_name()
                            ));
                        }
                    }
                }
            }
            if let Some(rest) = piece.strip_prefix("cargo ") {
                let mut words = rest.split_whitespace();
                while words.by_ref().any(|word| word == "-p") {
                    let package = words.next().unwrap_or_default();
                    if !packages.contains(package) {
                        faults.push(format!("{at}: cargo has no package {package}"));
                    }
                }
            }
            for program in ["scripts/lab ", "lab "] {
                let Some(rest) = piece.strip_prefix(program) else {
                    continue;
                };
                let name = rest.split_whitespace().next().unwrap_or_default();
                if !is_target(name) {
                    continue;
                }
                let Some(command) = subcommand(name) else {
                    faults.push(format!("{at}: lab has no subcommand {name}"));
                    continue;
                };
                for option in options(rest) {
                    if !has_option(command, option) {
                        faults.push(format!("{at}: lab {name} has no option --{option}"));
                    }
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    outcome(faults)
}

/// The document on tests has a row for each scenario.
fn scenarios(files: &[(String, String)]) -> Outcome {
    let text = files
        .iter()
        .find(|(name, _)| name == SCENARIOS)
        .map_or("", |(_, text)| text.as_str());
    let described: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    outcome(
        Scenario::ALL
            .iter()
            .map(|scenario| scenario.name())
            .filter(|name| !described.contains(name))
            .map(|name| format!("{SCENARIOS}: no table has the scenario {name}"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with the package `rust/a`, a `Makefile`, and a document with `text`.
    fn tree(text: &str) -> Vec<(String, String)> {
        [
            ("rust/a/b.rs", ""),
            ("Makefile", ".PHONY: demo\ndemo: ## show\ntest: demo\n"),
            ("rust/a/Cargo.toml", "[package]\nname = \"a\"\n"),
            ("Documentation/a.rst", text),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .to_vec()
    }

    /// The faults of a check.
    fn faults(outcome: Outcome) -> Vec<String> {
        match outcome {
            Outcome::Failed(text) => text.lines().map(str::to_owned).collect(),
            Outcome::Passed => Vec::new(),
            other => panic!("expected passed or failed, saw {other:?}"),
        }
    }

    #[test]
    fn a_path_that_exists_is_none_to_complain_of() {
        for text in [
            "``rust/a/b.rs``, ``rust/a``, rust/a/.",
            "``rust/{a,a/b.rs}`` and ``rust/*/b.rs``",
            "``rust/<crate>/tests``, ``rust/a/<name>.rs``",
            "``rust/a/b.o``",
            "the kernel's ``rust/kernel``, ``rust/kernel/pci.rs``, ``samples/rust/rust_minimal.rs``",
            "``b.rs``",
            "[b](rust/a/b.rs#head) [c](https://example.org)",
        ] {
            assert_eq!(faults(paths(&tree(text))), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_path_that_does_not_exist_is_seen() {
        for (text, fault) in [
            ("``rust/a/c.rs``", "there is no rust/a/c.rs"),
            ("see rust/b/.", "there is no rust/b/"),
            ("rust/kernel_b", "there is no rust/kernel_b"),
            ("``rust/{a,b}``", "there is no rust/b"),
            ("``c.rs``", "no directory has a file c.rs"),
            ("``rust/a/c.o``", "there is no rust/a/c.o"),
            ("[b](rust/c)", "there is no rust/c"),
            ("[b](C.md)", "a link goes to C.md, which does not exist"),
        ] {
            let seen = faults(paths(&tree(text)));
            let expected = format!("Documentation/a.rst:1: {fault}");
            assert!(
                seen.contains(&expected),
                "{text}: expected {expected}, saw {seen:?}"
            );
        }
    }

    #[test]
    fn a_command_that_exists_is_none_to_complain_of() {
        for text in [
            "``make demo``, ``make DEVICE=uart demo``",
            "  # make test",
            "``make test ARGS='--only policy'``",
            "  scripts/lab run --nested --device nvme -- 'ls --all'",
            "One can make a disk.",
            "                make a disk",
            "  make O=BUILD olddefconfig",
            "  cargo test -p a -p a b",
        ] {
            assert_eq!(faults(commands(&tree(text))), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_command_that_does_not_exist_is_seen() {
        for (text, fault) in [
            ("``make dome``", "make has no target dome"),
            ("`make demo bar`", "make has no target bar"),
            ("  $ make tset", "make has no target tset"),
            (
                "``make test ARGS='--olny policy'``",
                "lab test has no option --olny",
            ),
            ("  scripts/lab rnu", "lab has no subcommand rnu"),
            ("``lab run --nseted``", "lab run has no option --nseted"),
            ("``cargo test -p b``", "cargo has no package b"),
        ] {
            let seen = faults(commands(&tree(text)));
            let expected = format!("Documentation/a.rst:1: {fault}");
            assert!(
                seen.contains(&expected),
                "{text}: expected {expected}, saw {seen:?}"
            );
        }
    }

    #[test]
    fn a_scenario_without_a_description_is_seen() {
        let seen = faults(scenarios(&tree("")));
        assert_eq!(seen.len(), Scenario::ALL.len(), "saw {seen:?}");
    }
}
