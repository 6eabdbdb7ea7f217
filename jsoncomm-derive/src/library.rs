//! The name that a program gives to the library in its Cargo.toml. A macro has no other way to learn it.

use std::path::Path;

const LIBRARY: &str = "jsoncomm";

/// Returns the library's name in the program that is being compiled, if it is renamed.
pub(crate) fn other_name() -> Option<String> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let folder = Path::new(&folder);
    let own = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let above = folder.ancestors().skip(1);
    let above = above.filter_map(|folder| std::fs::read_to_string(folder.join("Cargo.toml")).ok());
    renamed(&own, above)
}

/// Returns the new name in a manifest, with the manifests of the folders above.
fn renamed(own: &str, above: impl Iterator<Item = String>) -> Option<String> {
    let is_renamed = |(key, says): &(String, String)| {
        key != LIBRARY && says.contains(&format!("package=\"{LIBRARY}\""))
    };
    let own = dependencies(own);
    if own.iter().any(|(key, _)| key == LIBRARY) {
        return None;
    }
    let inherited = |(key, _): &(String, String)| {
        let mut own = own.iter();
        own.any(|(own, says)| own == key && says.contains("workspace=true"))
    };
    let above = above.flat_map(|manifest| dependencies(&manifest));
    let mut above = above.filter(|one| is_renamed(one) && inherited(one));
    let found = own.iter().find(|one| is_renamed(one)).cloned();
    let (key, _) = found.or_else(|| above.next())?;
    Some(key.replace('-', "_"))
}

/// Returns the dependencies in a manifest and what it says about them without spaces, one for each line about one.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    // The table, or the dependency that has a table of its own.
    let (mut inside, mut of) = (false, None::<String>);
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default();
            let mut parts = header.rsplit('.').map(unquoted);
            let (last, before) = (parts.next(), parts.next());
            let is_table =
                |part: &Option<&str>| part.is_some_and(|part| part.ends_with("dependencies"));
            inside = is_table(&last) || is_table(&before);
            of = last.filter(|_| is_table(&before)).map(str::to_owned);
            continue;
        }
        let Some((left, right)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        let (key, says) = match (&of, left.split_once('.')) {
            (Some(key), _) => (key.as_str(), format!("{left}={right}")),
            (None, Some((key, says))) => (key, format!("{says}={right}")),
            (None, None) => (left, right.to_owned()),
        };
        let says = says.split_whitespace().collect();
        all.push((unquoted(key).to_owned(), says));
    }
    all
}

fn unquoted(part: &str) -> &str {
    part.trim().trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_library_is_found_however_the_manifest_is_written() {
        let name = |own: &str, above: &[&str]| {
            renamed(own, above.iter().map(|manifest| (*manifest).to_owned()))
        };
        for own in [
            "[dependencies]\nrpc = { package = \"jsoncomm\", version = \"1\" }",
            "[dependencies]\nserde = \"1\"\n\"rpc\" = {version=\"1\",package=\"jsoncomm\"} # ours",
            "[dev-dependencies]\nrpc.version = \"1\"\nrpc.package = \"jsoncomm\"",
            "[target.'cfg(unix)'.dependencies.rpc]\nversion = \"1\"\npackage = \"jsoncomm\"\n[features]",
        ] {
            assert_eq!(name(own, &[]).as_deref(), Some("rpc"), "{own}");
        }
        let dashed = "[dependencies]\nmy-rpc = { package = \"jsoncomm\" }";
        assert_eq!(name(dashed, &[]).as_deref(), Some("my_rpc"));
        let root = "[workspace.dependencies]\nrpc = { package = \"jsoncomm\" }";
        for own in [
            "rpc.workspace = true",
            "rpc = { workspace = true, optional = true }",
        ] {
            let own = format!("[dependencies]\n{own}");
            assert_eq!(name(&own, &["", root]).as_deref(), Some("rpc"), "{own}");
        }
        for own in [
            "",
            "[package]\nname = \"jsoncomm\"",
            "[dependencies]\njsoncomm = \"1\"",
            "[dependencies]\njsoncomm.workspace = true",
            "[dependencies.jsoncomm]\nversion = \"1\"",
            "[dependencies]\njsoncomm = \"1\"\n[dev-dependencies]\nrpc = { package = \"jsoncomm\" }",
            "[dependencies]\nrpc = \"1\"",
            "[package.metadata]\nrpc = { package = \"jsoncomm\" }",
        ] {
            assert_eq!(name(own, &[root]), None, "{own}");
        }
    }
}
