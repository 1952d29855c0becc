//! The program of the README is the one that the crate page runs.

use std::fs;
use std::path::Path;

/// The lines that a reader sees of the first code block that opens with `fence`.
fn first_program(page: &str, fence: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != fence).skip(1);
    let program = lines.take_while(|line| *line != "```");
    program.filter(|line| !line.starts_with("# ")).map(str::to_owned).collect()
}

#[test]
fn the_readme_shows_the_program_of_the_crate_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path| fs::read_to_string(root.join(path)).expect("the repository is whole");
    let crate_page: Vec<_> = read("src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned())
        .collect();
    let shown = first_program(&read("../README.md"), "```rust");
    assert!(!shown.is_empty(), "the README has no program");
    assert_eq!(shown, first_program(&crate_page.join("\n"), "```"));
}
