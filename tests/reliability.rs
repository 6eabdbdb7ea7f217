//! The page on reliability names tests that there are.

#[macro_use]
extern crate jsoncomm_watchdog;

use std::path::Path;

#[test]
fn each_row_of_the_page_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("jsoncomm/RELIABILITY.md")).unwrap();
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("|---");
    let mut rows = 0;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        // What stands above the rule is the table's head.
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
            let folder = if file.starts_with("src/") {
                "jsoncomm"
            } else {
                "tests"
            };
            let source = root.join(folder).join(format!("{file}.rs"));
            let source = std::fs::read_to_string(source).unwrap_or_default();
            let function = source
                .split_once(&format!("fn {test}("))
                .map(|(before, _)| before);
            let attributes = function.and_then(|before| before.rsplit("\n\n").next());
            assert!(
                attributes.is_some_and(|text| text.contains("#[test]")),
                "there is no test {name}"
            );
        }
    }
    assert!(rows > 50, "only {rows} rows were found");
}
