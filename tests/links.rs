//! Every link between the pages of this repository leads to a file, and the crate's README has none to follow.

use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages in a folder.
fn pages(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(project().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

/// Where the links and pictures of a page lead, without those to other hosts, to items of a crate (`crate::Limits`)
/// and within the page.
fn targets(page: &str) -> Vec<&str> {
    // What stands between fences, or in backticks, is code: every other part.
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
fn links_lead_to_files() {
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
    assert!(links > 10, "{links}");
}

#[test]
fn links_are_found_wherever_they_may_stand() {
    let page = "[a](a.md) and ![b](b/c.svg#top), [`d`](d.rs)\n[e]\n```\n[no](no.md)\n```\n`[no](no.md)`\n\
                [no](#here) [no](https://no.no/no.md) [no](crate::No#no)\n\n[e]: e.md";
    assert_eq!(targets(page), ["a.md", "b/c.svg", "d.rs", "e.md"]);
}

/// It is also the first page of the documentation and of the package, from where no link of this one leads anywhere.
/// After a change of the README: `SNAPSHOT=overwrite cargo test --test pages links`.
#[test]
fn the_readme_of_the_crate_is_this_one_up_to_the_links() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let (text, _) = readme.split_once("\n## Where to read on\n").unwrap();
    assert!(targets(text).is_empty(), "{:?}", targets(text));
    let of_crate = project().join("jsoncomm/README.md");
    if std::env::var_os("SNAPSHOT").is_some_and(|what| what == "overwrite") {
        fs::write(&of_crate, text).unwrap();
    }
    assert!(!of_crate.is_symlink());
    assert_eq!(fs::read_to_string(&of_crate).unwrap(), text);
}
