//! The page on reliability names tests that exist, and every file with tests belongs to a program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsoncomm_tests::programs_of;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Adds the modules of a file, which are in `folder`, and their modules.
fn add_modules(file: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) {
    let text = fs::read_to_string(file).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("mod "));
    for name in names.filter_map(|line| line.strip_suffix(';')) {
        let module = folder.join(format!("{name}.rs"));
        assert!(module.is_file(), "{} is not there", module.display());
        add_modules(&module, &folder.join(name), files);
        files.insert(module);
    }
}

/// Returns the files that the test programs are compiled from, without their roots.
fn modules() -> BTreeSet<PathBuf> {
    let tests = root().join("tests");
    let mut files = BTreeSet::new();
    for program in programs_of(&tests) {
        add_modules(&program, &tests, &mut files);
    }
    files
}

/// Returns true if a source has a test of this name.
fn has_test(source: &str, test: &str) -> bool {
    let function = source.split_once(&format!("fn {test}("));
    let attributes = function.and_then(|(before, _)| before.rsplit("\n\n").next());
    attributes.is_some_and(|text| text.contains("#[test]"))
}

#[test]
fn each_row_of_the_page_names_a_test_that_exists() {
    let page = fs::read_to_string(root().join("jsoncomm/RELIABILITY.md")).unwrap();
    let modules = modules();
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("|---");
    let mut rows = 0;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        // The line above the rule is the head of the table.
        let head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if head || !is_row(&line) {
            continue;
        }
        rows += 1;
        let names: Vec<&str> = line
            .split('`')
            .filter(|code| code.contains("::") && !code.contains(' '))
            .collect();
        assert!(!names.is_empty(), "no test: {line}");
        for name in names {
            let (file, test) = name.split_once("::").unwrap();
            let of_library = file.starts_with("src/");
            let folder = if of_library { "jsoncomm" } else { "tests" };
            let path = root().join(folder).join(format!("{file}.rs"));
            let runs = of_library || modules.contains(&path);
            let source = fs::read_to_string(&path).unwrap_or_default();
            assert!(runs && has_test(&source, test), "there is no test {name}");
        }
    }
    assert!(rows > 0, "no rows were found");
}

/// Adds the files below a folder that have tests, except those of nested packages.
fn add_files_with_tests(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() {
                add_files_with_tests(&path, files);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            if text.lines().any(|line| line == "#[test]") {
                files.insert(path);
            }
        }
    }
}

#[test]
fn every_file_with_tests_belongs_to_a_program() {
    let mut files = BTreeSet::new();
    add_files_with_tests(&root().join("tests"), &mut files);
    let modules = modules();
    let left: Vec<_> = files.difference(&modules).collect();
    assert!(left.is_empty(), "no program has {left:?}");
}
