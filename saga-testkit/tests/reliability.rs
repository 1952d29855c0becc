//! The tables of `docs/reliability.md` name the tests that are there.
//!
//! After a change of the tests: `WRITE_TABLES=1 cargo test -p saga-testkit --test reliability`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where proofs are, and on which parts they run.
const PLACES: &[(&str, &str)] = &[
    ("saga-core/src", "pure"),
    ("saga-core/tests", "in memory"),
    ("saga-testkit/tests", "simulated"),
    ("saga-postgres/tests", "PostgreSQL"),
    ("saga-kafka/tests", "Kafka"),
    ("examples/chassis", "the services"),
    ("examples/tests", "the services"),
];

/// The names of the tests that prove something, by what they prove.
type Proofs = BTreeMap<String, Vec<String>>;

#[test]
fn the_tables_name_the_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut proofs = Proofs::new();
    for (folder, parts) in PLACES {
        for file in sources(&root.join(folder)) {
            collect(&fs::read_to_string(file).expect("a source file"), parts, &mut proofs);
        }
    }
    let page = root.join("docs/reliability.md");
    let written = fs::read_to_string(&page).expect("the page");
    let current = with_proofs(&written, &mut proofs);
    assert!(proofs.is_empty(), "tests prove what the page does not list: {proofs:?}");
    let (_, promise) = current.split_once("## The promise").expect("a promise");
    let (promise, tables) = promise.split_once("## Not covered").expect("its end");
    for test in promise.split('`').skip(1).step_by(2) {
        assert!(tables.contains(&format!("`{test}` (")), "{test} proves nothing of the tables");
    }
    if std::env::var_os("WRITE_TABLES").is_some() {
        fs::write(&page, current).expect("the page can be written");
    } else {
        assert_eq!(written, current, "out of date; the head of this test says what to type");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Adds the tests of a source file whose comment or name says what they prove.
fn collect(source: &str, parts: &str, proofs: &mut Proofs) {
    let mut proved: Vec<String> = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            proved.extend(from_comment(comment.trim_start()));
        } else if line.starts_with('#') {
            is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
            is_ignored |= line.starts_with("#[ignore");
        } else if let Some(name) = function(line).filter(|_| std::mem::take(&mut is_test)) {
            proved.extend(from_name(name));
            let when = if std::mem::take(&mut is_ignored) { ", on demand" } else { "" };
            for identifier in proved.drain(..) {
                let tests = proofs.entry(identifier).or_default();
                let test = format!("`{name}` ({parts}{when})");
                if !tests.contains(&test) {
                    tests.push(test);
                }
            }
        } else {
            proved.clear();
        }
    }
}

/// Reads the list in `F32, I2: a reply ...`, or in `F32, I2.`
fn from_comment(comment: &str) -> Vec<String> {
    let list = comment.split_once(": ").map_or(comment, |(list, _)| list);
    let list = list.strip_suffix('.').unwrap_or(list);
    let all: Vec<_> = list.split(", ").collect();
    if all.iter().all(|it| is_identifier(it)) {
        all.into_iter().map(str::to_owned).collect()
    } else {
        Vec::new()
    }
}

fn from_name(name: &str) -> Option<String> {
    let (first, _) = name.split_once('_')?;
    let mut chars = first.chars();
    let identifier = chars.next()?.to_uppercase().chain(chars).collect::<String>();
    is_identifier(&identifier).then_some(identifier)
}

fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    line.split(['(', '<']).next()
}

/// Returns true for a letter, a number, and perhaps a `b`: `F32`, `I4b`.
fn is_identifier(text: &str) -> bool {
    let number = text.strip_prefix(['B', 'F', 'I', 'S']).unwrap_or_default();
    let number = number.strip_suffix('b').unwrap_or(number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Fills the last column of every row, and takes what it fills in out of `proofs`.
fn with_proofs(page: &str, proofs: &mut Proofs) -> String {
    let lines = page.lines().map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", identifier, meaning, _, ""] if is_identifier(identifier) => {
                let tests = proofs.remove(identifier).unwrap_or_default().join(", ");
                let space = if tests.is_empty() { "" } else { " " };
                format!("| {identifier} | {meaning} |{space}{tests} |\n")
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}
