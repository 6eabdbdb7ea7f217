//! Links between the pages of this repository lead to files, and the crate's README has none.

use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the pages in a folder.
fn pages(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(project().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

/// Returns the targets of a page's links and pictures, except other hosts, items of a crate (`crate::Limits`) and
/// anchors within the page.
fn targets(page: &str) -> Vec<&str> {
    // Every second part is code, between fences or backticks.
    let text = page.split("```").step_by(2);
    let text = text.flat_map(|part| part.split('`').step_by(2));
    let inline = text.flat_map(|part| part.split("](").skip(1));
    let inline = inline.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    // `[name]: target` at the foot of a page.
    let defined = page.lines().filter(|line| line.starts_with('['));
    let defined = defined.filter_map(|line| line.split_once("]: ").map(|(_, target)| target));
    let all = inline
        .chain(defined)
        .map(|target| target.split('#').next().unwrap());
    all.filter(|target| !target.is_empty() && !target.contains("::") && !target.contains("://"))
        .collect()
}

#[test]
fn links_point_to_existing_files() {
    let folders = [
        "",
        "benches",
        "examples",
        "fuzz",
        "jsoncomm",
        "jsoncomm-cli",
        "jsoncomm/doc",
        "jsoncomm/guide",
        "tests/vectors",
    ];
    let mut links = 0;
    for page in folders.into_iter().flat_map(pages) {
        let text = fs::read_to_string(&page).unwrap();
        for target in targets(&text) {
            let file = page.parent().unwrap().join(target);
            assert!(file.exists(), "{} leads to {target}", page.display());
            links += 1;
        }
    }
    assert!(links > 0, "no links were found");
}

#[test]
fn links_of_every_form_are_found() {
    let page = "[a](a.md) and ![b](b/c.svg#top), [`d`](d.rs)\n[e]\n```\n[no](no.md)\n```\n`[no](no.md)`\n\
                [no](#here) [no](https://no.no/no.md) [no](crate::No#no)\n\n[e]: e.md";
    assert_eq!(targets(page), ["a.md", "b/c.svg", "d.rs", "e.md"]);
}

/// Returns the text with each link replaced by its label.
fn without_links(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').unwrap();
        result.extend([before, label]);
        rest = after.split_once(')').unwrap().1;
    }
    result + rest
}

/// The README of the crate is also its first page of documentation and of its package, where links to files of this
/// repository do not work. After a change of the README: `SNAPSHOT=overwrite cargo test --test pages links`.
#[test]
fn the_readme_of_the_crate_is_that_of_the_repository_without_links() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let (text, _) = readme.split_once("\n## Where to read on\n").unwrap();
    let text = without_links(text);
    assert!(targets(&text).is_empty(), "{:?}", targets(&text));
    let of_crate = project().join("jsoncomm/README.md");
    if std::env::var_os("SNAPSHOT").is_some_and(|what| what == "overwrite") {
        fs::write(&of_crate, &text).unwrap();
    }
    assert!(!of_crate.is_symlink());
    assert_eq!(fs::read_to_string(&of_crate).unwrap(), text);
}
