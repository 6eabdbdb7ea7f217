//! `jsoncomm peer` and `jsoncomm bench`.

use jsoncomm::Kind;
use jsoncomm_tests::KINDS;

use crate::common::{Double, Example, good, said};

#[test]
fn the_server_is_identified_by_the_kernel() {
    if !jsoncomm_tests::has_proc() {
        return;
    }
    for kind in KINDS {
        let example = Example::start(kind);
        let told = good(said(&["peer", example.address()]));
        let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        let name = format!("{kind:?}").to_lowercase();
        let gid = rustix::process::getgid().as_raw();
        let start = format!(
            r#"{{"kind":"{name}","uid":{uid},"gid":{gid},"pid":{pid},"executable":"{}","send_buffer":"#,
            exe.display()
        );
        assert!(told.starts_with(&start), "{told}\n{start}");
        let number = |name: &str| -> usize {
            let rest = told.split(&format!("\"{name}\":")).nth(1).unwrap();
            let end = rest.find([',', '}']).unwrap();
            rest[..end].parse().unwrap()
        };
        let (buffer, inline) = (number("send_buffer"), number("largest_inline"));
        assert_eq!(
            inline,
            (buffer - 32).min(jsoncomm::socket::DATAGRAM_MAX),
            "{told}"
        );
    }
}

#[test]
fn a_server_that_does_not_reply_is_identified_by_its_listening_socket() {
    let double = Double::start(vec![vec![]]);
    let told = said(&["peer", "--timeout", "50ms", double.address()]);
    let pid = format!("\"pid\":{},", std::process::id());
    assert!(good(told).contains(&pid));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("silent.sock");
    let _silent = jsoncomm::socket::Socket::bind(&path).unwrap();
    let told = said(&["peer", "--timeout", "50ms", path.to_str().unwrap()]);
    assert_eq!(told.code, Some(124), "{told:?}");
}

#[test]
fn calls_are_made_and_their_durations_reported() {
    let example = Example::start(Kind::Seqpacket);
    let list = [
        "bench",
        "--calls",
        "50",
        example.address(),
        "example.files.list",
    ];
    let told = good(said(&list));
    for piece in [
        "{\"calls\":50,\"seconds\":",
        "\"median_us\":",
        "\"p99_us\":",
        "\"calls_per_second\":",
    ] {
        assert!(told.contains(piece), "{told}");
    }
    let list = [
        "bench",
        "--time",
        "20ms",
        example.address(),
        "example.files.list",
    ];
    assert!(!good(said(&list)).contains("{\"calls\":0,"));
    let open = [
        "bench",
        example.address(),
        "example.files.open",
        r#"["nowhere"]"#,
    ];
    let ended = said(&open);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    let ended = said(&["bench", "--calls", "0", example.address(), "a.b"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
