//! The ancestor's host services: our service is called by a double of osbuild, and our client calls a double of its
//! services, and our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jsoncomm_tests::{assert_python_tests_pass, built_example, python};

use super::text;

/// Builds the example and returns its path.
fn built() -> PathBuf {
    let built = built_example("osbuild_host", &["osbuild"]);
    let ended = Command::new(&built).output().expect("it starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("usage: osbuild_host"), "{said}");
    built
}

fn double(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("osbuild");
    folder.join(name)
}

/// Runs the client, which starts the service and calls it.
fn call(client: &Path, service: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(client);
    command.arg("call").arg(service).args(words);
    command.output().expect("it runs")
}

#[test]
fn osbuild_starts_and_calls_our_service() {
    assert_python_tests_pass(python(double("host.py")).env("HOST_SERVICE", built()));
}

#[test]
fn our_client_starts_and_calls_services_of_either_language() {
    let client = built();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // The reply is printed as received: our service returns the text unchanged, Python serializes it anew.
    let digits = "9".repeat(60);
    let sent = format!(r#"{{"a":["ü",null,{digits}]}}"#);
    let anew = format!(r#"{{"a": ["\u00fc", null, {digits}]}}"#);
    for (service, written) in [(client.clone(), &sent), (double("service.py"), &anew)] {
        std::fs::write(path("asked"), "question").unwrap();
        std::fs::write(path("answer"), "").unwrap();
        let (asked, reply) = (path("asked"), path("answer"));

        let echo = call(&client, &service, &["echo", &sent, &asked]);
        let expected = format!("reply {written}\ndescriptor 0: question\n");
        assert_eq!(text(&echo), expected);
        let map = call(&client, &service, &["map", "null", &asked, &reply]);
        assert_eq!(text(&map), "reply \"{}\"\n");
        assert_eq!(std::fs::read_to_string(&reply).unwrap(), "QUESTION");

        let failed = call(&client, &service, &["nothing"]);
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success());
        assert!(said.contains("ValueError: no method nothing\n"), "{said}");
    }
}

#[test]
fn our_client_prints_signals_and_reads_large_replies() {
    let (client, service) = (built(), double("service.py"));
    let signals = call(&client, &service, &["signals", r#"[1,{"b":[2]}]"#]);
    assert_eq!(
        text(&signals),
        "signal 1\nsignal {\"b\": [2]}\nreply null\n"
    );
    let large = call(&client, &service, &["large", "6000000"]);
    assert_eq!(text(&large).len(), "reply \"\"\n".len() + 6_000_000);
}

#[test]
fn our_client_notices_that_a_service_exits() {
    let left = call(&built(), &double("service.py"), &["leave"]);
    let said = String::from_utf8_lossy(&left.stderr);
    assert!(!left.status.success());
    assert!(said.ends_with("as asked\nclosed by the peer\n"), "{said}");
}
