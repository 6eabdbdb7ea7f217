//! The modules of the library and of the derive import only from lower layers, and each foreign crate has its module:
//! the tables in `jsoncomm/ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that only some modules may name, with these modules.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("mio", &["reactor"]),
    ("rustix", &["sys"]),
    ("libc", &["sys"]),
    ("serde_json", &["json", "describe", "openrpc"]),
];

/// A source file without comments and test code.
struct Source {
    /// Relative to the folder `src`.
    path: PathBuf,
    code: String,
}

impl Source {
    /// Returns the first part of the path: `server` for `server.rs` and for `server/stop.rs`.
    fn module(&self) -> &str {
        let first = self.path.iter().next().unwrap().to_str().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the layer of each module, from the table below `heading`.
fn layers(page: &str, heading: &str) -> BTreeMap<String, u32> {
    let (_, section) = page.split_once(heading).unwrap();
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut layers = BTreeMap::new();
    for row in rows {
        let mut cells = row.split('|').skip(1);
        let Ok(layer) = cells.next().unwrap().trim().parse() else {
            continue;
        };
        for module in cells.next().unwrap().split('`').skip(1).step_by(2) {
            assert_eq!(layers.insert(module.to_owned(), layer), None, "{module}");
        }
    }
    layers
}

/// Removes comments and items with `#[cfg(test)]` from a file that rustfmt has formatted. Adds the files of test
/// modules, `tests` for `mod tests;`, to `test_modules`.
fn without_tests(text: &str, test_modules: &mut Vec<String>) -> String {
    let mut code = String::new();
    let mut lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        let item = line.trim_start();
        if item != "#[cfg(test)]" && !item.starts_with("#[cfg(all(test, ") {
            code.push_str(line.split(" // ").next().unwrap());
            code.push('\n');
            continue;
        }
        let indent = line.len() - item.len();
        let is_outside = |line: &&str| line.len() - line.trim_start().len() <= indent;
        let mut item_lines = lines
            .by_ref()
            .filter(|line| is_outside(line) && !line.trim_start().starts_with("#["));
        let last = item_lines.find(|line| line.ends_with([';', '}', ',']));
        let module = last.and_then(|line| line.trim_start().strip_prefix("mod "));
        test_modules.extend(
            module
                .and_then(|rest| rest.strip_suffix(';'))
                .map(str::to_owned),
        );
    }
    code
}

fn read_folder(
    root: &Path,
    folder: &Path,
    sources: &mut Vec<Source>,
    test_files: &mut Vec<PathBuf>,
) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root.join(&path).is_dir() {
            read_folder(root, &path, sources, test_files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(root.join(&path)).unwrap();
            let mut test_modules = Vec::new();
            let code = without_tests(&text, &mut test_modules);
            let folder = match path.file_stem().unwrap() {
                stem if stem == "lib" => folder.to_owned(),
                stem => folder.join(stem),
            };
            test_files.extend(test_modules.iter().map(|module| folder.join(module)));
            sources.push(Source { path, code });
        }
    }
}

/// Returns the sources of a crate, without its tests.
fn sources(package: &str) -> Vec<Source> {
    let root = project().join(package).join("src");
    let (mut sources, mut test_files) = (Vec::new(), Vec::new());
    read_folder(&root, Path::new(""), &mut sources, &mut test_files);
    let is_test = |path: &Path| {
        let module = path.with_extension("");
        test_files.iter().any(|test| module.starts_with(test))
    };
    sources.retain(|source| !is_test(&source.path));
    sources
}

/// Returns the identifiers that follow `prefix`, unless that is part of a longer identifier.
fn names_after<'c>(code: &'c str, prefix: &str) -> BTreeSet<&'c str> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(is_word))
        .map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            &rest[..rest.find(|char| !is_word(char)).unwrap_or(rest.len())]
        })
        .collect()
}

/// Returns the imports that do not lead to a lower layer, as sentences.
fn upward_imports(sources: &[Source], layers: &BTreeMap<String, u32>) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let (module, path) = (source.module(), source.path.display());
        let Some(layer) = layers.get(module) else {
            found.push(format!("{path} is in no layer"));
            continue;
        };
        for name in names_after(&source.code, "crate::") {
            if name == module {
                continue;
            }
            match layers.get(name) {
                Some(lower) if lower < layer => {}
                Some(upper) => found.push(format!(
                    "{path} is in layer {layer} and imports from {name} in layer {upper}"
                )),
                None => found.push(format!("{path} names crate::{name}, which is no module")),
            }
        }
        // In `server.rs`, `super` is the root of the crate.
        if source.path.components().count() == 1 && source.code.contains("super::") {
            found.push(format!("{path} imports from the root of the crate"));
        }
    }
    found
}

fn assert_layers_hold(package: &str, heading: &str) {
    let page = fs::read_to_string(project().join("jsoncomm/ARCHITECTURE.md")).unwrap();
    let layers = layers(&page, heading);
    let sources = sources(package);
    assert!(sources.len() > 10, "{} files", sources.len());
    assert_eq!(upward_imports(&sources, &layers), [""; 0]);
    let modules: BTreeSet<&str> = sources.iter().map(Source::module).collect();
    let listed: BTreeSet<&str> = layers.keys().map(String::as_str).collect();
    assert_eq!(modules, listed);
}

#[test]
fn modules_of_the_library_import_only_from_lower_layers() {
    assert_layers_hold("jsoncomm", "## Modules and layers\n");
}

#[test]
fn modules_of_the_derive_import_only_from_lower_layers() {
    assert_layers_hold("jsoncomm-derive", "## The derive\n");
}

#[test]
fn each_restricted_crate_is_named_only_by_its_modules() {
    let mut found = Vec::new();
    for source in sources("jsoncomm") {
        for (name, modules) in FOREIGN {
            let named = !names_after(&source.code, &format!("{name}::")).is_empty();
            if named && !modules.contains(&source.module()) {
                found.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_functions_and_files_that_the_page_names_exist() {
    let page = fs::read_to_string(project().join("jsoncomm/ARCHITECTURE.md")).unwrap();
    let names = page.split('`').skip(1).step_by(2);
    let (mut functions, mut files) = (0, 0);
    for name in names.filter(|name| !name.contains(' ')) {
        if let Some((file, function)) = name.split_once("::") {
            // A name with a capital is a method of a public type.
            if file.starts_with(char::is_uppercase) {
                continue;
            }
            let path = project().join(format!("jsoncomm/src/{file}.rs"));
            let source = fs::read_to_string(&path).unwrap_or_default();
            let found = names_after(&source, &format!("fn {function}")).contains("");
            assert!(found, "{} has no function {function}", path.display());
            functions += 1;
        } else if name.contains('/') && !name.starts_with('/') {
            let folders = ["", "jsoncomm", "jsoncomm/src"].map(|folder| project().join(folder));
            let found = |path: PathBuf| path.exists() || path.with_extension("rs").exists();
            assert!(
                folders.iter().any(|folder| found(folder.join(name))),
                "there is no {name}"
            );
            files += 1;
        }
    }
    assert!(functions > 15 && files > 15, "{functions} and {files}");
}

#[test]
fn an_upward_import_is_found_and_one_of_a_test_is_allowed() {
    let page = "## Layers\n\n| layer | module |\n|---|---|\n| 0 | `sys` |\n| 1 | `fds`, `limits` |\n\n| 9 | `no` |\n";
    let layers = layers(page, "## Layers\n");
    assert_eq!(layers.len(), 3);
    let found = |path: &str, text: &str| {
        let mut tests = Vec::new();
        let source = Source {
            path: path.into(),
            code: without_tests(text, &mut tests),
        };
        (upward_imports(&[source], &layers), tests)
    };
    for allowed in [
        "use crate::sys::{self, socket};\nuse crate::fds::closer;\n",
        "// crate::limits\nfn none() {} // crate::limits\n",
        "#[cfg(test)]\n#[expect(unused)]\nmod tests {\n    use crate::limits::Limits;\n}\nfn none() {}\n",
        "impl Fds {\n    #[cfg(test)]\n    fn all(\n        limits: crate::limits::Limits,\n    ) {\n    }\n}\n",
    ] {
        assert_eq!(
            found("fds/list.rs", allowed),
            (Vec::new(), Vec::new()),
            "{allowed}"
        );
    }
    let in_a_file = "#[cfg(test)]\nmod tests;\n";
    assert_eq!(
        found("fds.rs", in_a_file),
        (Vec::new(), vec!["tests".to_owned()])
    );
    for refused in [
        "use crate::limits::Limits;\n",
        "#[cfg(test)]\nmod tests {\n}\nuse crate::limits::Limits;\n",
        "fn none() { $crate::limits::none() }\n",
        "use crate::Limits;\n",
        "use crate::{limits, sys};\n",
        "use super::sys;\n",
    ] {
        let (found, _) = found("fds.rs", refused);
        assert_eq!(found.len(), 1, "{refused}: {found:?}");
    }
    assert_eq!(found("new.rs", "").0, ["new.rs is in no layer"]);
}
