// SPDX-License-Identifier: GPL-2.0

//! The mirror of Debian's archive that the machine's own apt is configured with.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::bail;
use anyhow::Result;

/// Suites of Debian itself. Third parties use suites of their own, or are recognised by what they put into the URI.
const SUITES: [&str; 9] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "stable",
    "testing",
    "unstable",
    "oldstable",
];

/// A source of binary packages.
#[derive(Debug, PartialEq, Eq)]
struct AptSource {
    uri: String,
    suite: String,
}

/// The sources in a file of lines, `sources.list(5)`.
fn one_line_style(text: &str) -> Vec<AptSource> {
    let source = |line: &str| {
        let rest = line.trim().strip_prefix("deb")?;
        let mut rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        if rest.starts_with('[') {
            rest = rest.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace();
        Some(AptSource {
            uri: words.next()?.to_owned(),
            suite: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(source).collect()
}

/// The sources in a file of paragraphs, `sources.list(5)`. A field may go on over indented lines.
fn deb822_style(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for paragraph in lines.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, Vec<&str>)> = Vec::new();
        for line in paragraph {
            if line.starts_with([' ', '\t']) {
                if let Some((_, words)) = fields.last_mut() {
                    words.extend(line.split_whitespace());
                }
            } else if let Some((name, words)) = line.split_once(':') {
                fields.push((
                    name.to_ascii_lowercase(),
                    words.split_whitespace().collect(),
                ));
            }
        }
        let field = |name: &str| -> Vec<&str> {
            let fields = fields.iter().filter(|(field, _)| field == name);
            fields
                .flat_map(|(_, words)| words.iter().copied())
                .collect()
        };
        let disabled = |word: &&str| matches!(&*word.to_ascii_lowercase(), "no" | "false" | "0");
        if !field("types").contains(&"deb") || field("enabled").iter().any(disabled) {
            continue;
        }
        for uri in field("uris") {
            sources.extend(field("suites").into_iter().map(|suite| AptSource {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
            }));
        }
    }
    sources
}

/// All sources that apt is configured with in `directory`, in both file formats.
fn sources(directory: &Path) -> Vec<AptSource> {
    let parts = directory.join("sources.list.d");
    let listed = fs::read_dir(parts).into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    parts.sort();
    let of = |extension: &str| {
        let its = |path: &&PathBuf| path.extension().is_some_and(|it| it == extension);
        parts.iter().filter(its).cloned().collect::<Vec<_>>()
    };
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let mut files = vec![directory.join("sources.list")];
    files.extend(of("list"));
    let mut sources: Vec<_> = files
        .into_iter()
        .flat_map(|path| one_line_style(&text(path)))
        .collect();
    sources.extend(
        of("sources")
            .into_iter()
            .flat_map(|path| deb822_style(&text(path))),
    );
    sources
}

/// The URI of Debian's archive in the first of the sources that has it, with a slash at the end.
fn archive(sources: Vec<AptSource>) -> Option<String> {
    let known = |source: &AptSource| SUITES.contains(&&*source.suite);
    sources.into_iter().filter(known).find_map(|source| {
        let mut uri = source.uri;
        // A list of mirrors, as cloud images have it: its first line will do.
        if let Some(list) = uri.strip_prefix("mirror+file:") {
            let list = fs::read_to_string(format!("/{}", list.trim_start_matches('/'))).ok()?;
            let mut lines = list.lines().filter(|line| !line.starts_with('#'));
            uri = lines
                .find_map(|line| line.split_whitespace().next())?
                .to_owned();
        }
        let uri = uri.trim_end_matches('/');
        uri.ends_with("/debian").then(|| format!("{uri}/"))
    })
}

/// The URI of the mirror, with a slash at the end. `FERRY_APT_DIR` names another directory than `/etc/apt` to look in.
pub fn mirror() -> Result<String> {
    let directory = env::var_os("FERRY_APT_DIR").filter(|it| !it.is_empty());
    let directory = directory.map_or_else(|| PathBuf::from("/etc/apt"), PathBuf::from);
    match archive(sources(&directory)) {
        Some(uri) => Ok(uri),
        None => bail!(
            "there is no Debian mirror in the machine's apt configuration\n    \
             Looked for a 'deb' source of a Debian release, with a URI that ends in /debian,\n    \
             in {}/sources.list and sources.list.d beside it. FERRY_APT_DIR names another directory.",
            directory.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str) -> AptSource {
        AptSource {
            uri: uri.to_owned(),
            suite: suite.to_owned(),
        }
    }

    #[test]
    fn both_formats_of_apt_are_read() {
        let lines = "# deb http://no/debian trixie main\ndeb-src http://no/debian trixie main\n\
                     deb [arch=amd64 signed-by=/a b] http://a/debian trixie main\n  deb\thttp://b/debian sid main\n";
        let expected = [
            source("http://a/debian", "trixie"),
            source("http://b/debian", "sid"),
        ];
        assert_eq!(one_line_style(lines), expected);

        let paragraphs = "# comment\nTypes: deb deb-src\nURIs: http://a/debian\nSuites: trixie\n trixie-updates\n\n\
                          types: deb\nURIs: http://no/debian\nSuites: sid\nEnabled: No\n\n\
                          Types: deb-src\nURIs: http://no/debian\nSuites: sid\n";
        let expected = [
            source("http://a/debian", "trixie"),
            source("http://a/debian", "trixie-updates"),
        ];
        assert_eq!(deb822_style(paragraphs), expected);
    }

    #[test]
    fn the_mirror_is_the_first_source_that_is_debians_own() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let list = directory.path().join("mirrors");
        fs::write(&list, "# mirrors\n\nhttp://c/debian/\tpriority:1\n").expect("write");
        let list = format!("mirror+file:{}", list.display());
        for (sources, expected) in [
            (
                vec![
                    source("http://a/apt", "trixie"),
                    source("http://b/debian/", "trixie"),
                ],
                Some("http://b/debian/"),
            ),
            (
                vec![source("http://a/debian", "tools"), source(&list, "stable")],
                Some("http://c/debian/"),
            ),
            (vec![source("mirror+file:/nowhere", "trixie")], None),
            (Vec::new(), None),
        ] {
            let told = format!("{sources:?}");
            assert_eq!(archive(sources).as_deref(), expected, "{told}");
        }
    }
}
