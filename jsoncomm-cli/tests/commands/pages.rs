//! The manual page, the completions, and the examples of the pages, run as they are printed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jsoncomm_tests::built_example;

use crate::common::{good, jsoncomm, run, safe_folder, said};

/// A command of a page, with its output as shown there.
#[derive(Debug)]
struct Step {
    command: String,
    printed: String,
}

/// Finds the commands between lines that begin and end an example.
fn steps(page: &str, begin: &str, end: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line == begin {
            inside = true;
        } else if line == end {
            inside = false;
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push(Step {
                command: command.to_owned(),
                printed: String::new(),
            });
        } else if let Some(step) = steps.last_mut().filter(|_| inside) {
            step.printed.push_str(line);
            step.printed.push('\n');
        }
    }
    steps
}

/// Runs the commands in a shell, in a folder with one file that the example `files` serves.
fn try_out(steps: &[Step]) {
    let Some(folder) = safe_folder() else {
        return;
    };
    std::fs::write(folder.path().join("a.txt"), "hello\n").unwrap();
    let socket = folder.path().join("files.sock");
    let _daemon = Daemon::start(folder.path(), &socket);
    // One shell for all: some depend on others before them.
    let mark = "-- what follows is the next --";
    let script: String = steps
        .iter()
        .map(|step| format!("{}\necho '{mark}'\n", step.command))
        .collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_jsoncomm"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let ended = run(Command::new("sh")
        .arg("-c")
        .arg(format!("{{ {script} }} 2>&1"))
        .current_dir(folder.path())
        .env("PATH", path)
        .env("JSONCOMM_ADDRESS", &socket)
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null()));
    let printed: Vec<&str> = ended.stdout.split(&format!("{mark}\n")).collect();
    assert_eq!(printed.len(), steps.len() + 1, "{ended:?}");
    for (step, printed) in steps.iter().zip(printed) {
        assert_eq!(printed, step.printed, "{}", step.command);
    }
}

/// A running `files serve`.
struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, socket: &Path) -> Self {
        // Built first and then run directly, so that the server itself is stopped.
        let mut child = Command::new(built_example("files", &[]))
            .args(["serve", "--seqpacket", "--root"])
            .arg(folder)
            .arg("--socket")
            .arg(socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("listening on "), "{ready}");
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_examples_of_the_readme_print_the_shown_output() {
    // Whose process serves a name is found there.
    jsoncomm_tests::needs_proc!();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let steps = steps(
        &std::fs::read_to_string(readme).unwrap(),
        "```console",
        "```",
    );
    assert!(steps.len() > 8, "{steps:?}");
    try_out(&steps);
}

#[test]
fn the_examples_of_the_manual_page_print_the_shown_output() {
    jsoncomm_tests::needs_proc!();
    let page = good(said(&["man"])).replace("\\-", "-");
    let steps = steps(&page, ".nf", ".fi");
    assert!(steps.len() > 5, "{steps:?}");
    try_out(&steps);
}

#[test]
fn every_command_has_a_manual_page_with_every_option() {
    let page = good(said(&["man"])).replace("\\-", "-");
    assert!(page.contains(".TH jsoncomm 1"), "{page}");
    for (command, words) in [
        (
            "call",
            &[
                "--fd",
                "--save",
                "--exec",
                "--follow",
                "--oneway",
                "--bare",
                "--timeout",
                "--limit",
                "fd:N",
            ][..],
        ),
        ("list", &["--kind", "--timeout"]),
        ("describe", &["--json", "--python", "--rust"]),
        ("peer", &["--kind"]),
        (
            "serve",
            &[
                "--jobs",
                "--once",
                "--mode",
                "--limit",
                "fd:3",
                "LISTEN_FDS",
            ],
        ),
        ("tap", &["LISTEN", "--mode"]),
        ("bench", &["--calls", "--time"]),
        ("completions", &["bash"]),
        ("man", &[]),
    ] {
        assert!(page.contains(&format!("jsoncomm-{command}")), "{command}");
        let page = good(said(&["man", command])).replace("\\-", "-");
        for word in words {
            assert!(page.contains(word), "{command} {word}");
        }
        let help = good(said(&[command, "--help"]));
        assert!(help.contains("Usage:"), "{help}");
    }
    for status in ["124", "EXIT STATUS", "JSONCOMM_ADDRESS", "NO_COLOR"] {
        assert!(page.contains(status), "{status}");
    }
    assert_eq!(said(&["man", "nothing"]).code, Some(2));
}

#[test]
fn there_are_completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = good(said(&["completions", shell]));
        assert!(
            script.contains("jsoncomm") && script.contains("follow"),
            "{shell}"
        );
    }
    // The shell at hand can read its own.
    let script = good(said(&["completions", "bash"]));
    let mut bash = jsoncomm(&[]);
    if let Ok(output) = Command::new("bash").args(["-n", "-c", &script]).output() {
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(
        run(&mut bash).code,
        Some(2),
        "without a command it says how to use it"
    );
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = format!("jsoncomm {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(good(said(&["--version"])), version);
}
