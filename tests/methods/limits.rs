//! What waiting calls are charged to: at, below and above each limit. Others are served meanwhile.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;
use jsoncomm_tests::{can_be_others, needs_proc};

#[test]
fn calls_of_one_caller_wait_up_to_the_limit_of_deferred_calls_and_one_more_is_busy() {
    alone!();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.deferred = 2;
        let (server, asked) = serve_asking(kind, limits, &["open"]);
        let (mut first, mut second) = (client(&server, kind), client(&server, kind));
        let text = |id| call(id, "open", "[7]");
        for id in 1..=2 {
            send_raw(&first, text(id).as_bytes(), &[]).unwrap();
        }
        let verdicts = [next(&asked), next(&asked)];
        let busy = ask(&mut first, &text(3));
        assert_eq!((&busy["id"], code(&busy)), (&json!(3), Fault::BUSY));
        assert!(asked.try_recv().is_err(), "nobody is asked about it");
        // The same caller is served, and so are others.
        assert_eq!(ask(&mut first, &call(4, "peek", "{}"))["result"], 0);
        send_raw(&second, text(5).as_bytes(), &[]).unwrap();
        next(&asked).allow();
        assert_eq!(receive(&mut second)["result"][0], 7);
        for (id, verdict) in (1..).zip(verdicts) {
            verdict.allow();
            assert_eq!(receive(&mut first)["id"], id);
        }
        send_raw(&first, text(6).as_bytes(), &[]).unwrap();
        next(&asked).refuse();
        assert_eq!(code(&receive(&mut first)), Fault::NOT_AUTHORIZED);
    }
}

#[test]
fn calls_of_one_user_wait_up_to_the_limits_over_all_connections() {
    alone!();
    for (user, total) in [(3, 9), (9, 3)] {
        let mut limits = Limits::default();
        (limits.deferred, limits.user_deferred, limits.deferred_total) = (2, user, total);
        let (server, asked) = serve_asking(Kind::Seqpacket, limits, &["open"]);
        let mut clients = [(); 3].map(|()| client(&server, Kind::Seqpacket));
        let text = call(1, "open", "[7]");
        let mut verdicts = Vec::new();
        for (client, count) in clients.iter().zip([2, 1, 0]) {
            for _ in 0..count {
                send_raw(client, text.as_bytes(), &[]).unwrap();
                verdicts.push(next(&asked));
            }
        }
        for client in &mut clients {
            assert_eq!(code(&ask(client, &text)), Fault::BUSY);
        }
        verdicts.pop().unwrap().allow();
        assert_eq!(receive(&mut clients[1])["id"], 1);
        send_raw(&clients[2], text.as_bytes(), &[]).unwrap();
        next(&asked).allow();
        assert_eq!(receive(&mut clients[2])["id"], 1);
    }
}

#[test]
fn descriptors_of_waiting_calls_are_charged_to_their_user() {
    alone!();
    // It waits there until those that were refused are closed.
    needs_proc!();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.user_descriptors = 5;
        let (server, asked) = serve_asking(kind, limits, &["store"]);
        let (mut first, mut second) = (client(&server, kind), client(&server, kind));
        for client in [&mut first, &mut second] {
            assert_eq!(ask(client, &call(1, "peek", "{}"))["result"], 0);
        }
        let before = open_fds();
        let null = File::open("/dev/null").unwrap();
        let pass = |client: &Socket, count: usize| {
            let list: Vec<_> = (0..count).collect();
            let text = call(1, "store", &json!({ "files": list }).to_string());
            send_raw(client, text.as_bytes(), &vec![null.as_fd(); count]).unwrap();
        };
        pass(&first, 3);
        let three = next(&asked);
        // Refused ones count until they are closed.
        let busy = |client: &mut Socket, waiting: usize| {
            assert_eq!(code(&receive(client)), Fault::BUSY);
            assert_open_fds(before + 1 + waiting);
        };
        // Above, at the limit, above, and nothing at all.
        pass(&second, 3);
        busy(&mut second, 3);
        pass(&second, 2);
        let two = next(&asked);
        pass(&second, 1);
        busy(&mut second, 5);
        pass(&second, 0);
        let none = next(&asked);
        assert!(asked.try_recv().is_err());
        for (verdict, count) in [(two, 2), (none, 0)] {
            verdict.allow();
            assert_eq!(receive(&mut second)["result"], count, "{kind:?}");
        }
        pass(&second, 2);
        next(&asked).refuse();
        assert_eq!(code(&receive(&mut second)), Fault::NOT_AUTHORIZED);
        three.allow();
        assert_eq!(receive(&mut first)["result"], 3);
        drop(null);
        assert_open_fds(before);
    }
}

#[test]
fn texts_of_waiting_calls_are_charged_to_their_user() {
    alone!();
    let text = |size: usize| {
        let rest = call(1, "echo", r#"[""]"#).len();
        call(1, "echo", &json!(["x".repeat(size - rest)]).to_string())
    };
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.user_backlog_bytes = 1000;
        let (server, asked) = serve_asking(kind, limits, &["echo"]);
        let mut client = client(&server, kind);
        assert_eq!(code(&ask(&mut client, &text(1001))), Fault::BUSY, "above");
        for sizes in [&[1000][..], &[500, 500], &[999]] {
            let mut verdicts = Vec::new();
            for size in sizes {
                send_raw(&client, text(*size).as_bytes(), &[]).unwrap();
                verdicts.push(next(&asked));
            }
            let busy = ask(&mut client, &text(100));
            assert_eq!(code(&busy), Fault::BUSY, "{sizes:?}");
            for verdict in verdicts {
                verdict.refuse();
                assert_eq!(code(&receive(&mut client)), Fault::NOT_AUTHORIZED);
            }
        }
    }
}

/// Parks as many calls as it can, with a descriptor each, on as many connections as it gets, and then waits for the end of its
/// input.
const HOARD: &str = r#"import array, socket, sys
text = b'{"jsonrpc":"2.0","id":1,"method":"test.vault.store","params":{"files":[0]}}'
null = open("/dev/null")
sockets = []
for _ in range(40):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(20)
    s.connect(sys.argv[1])
    for _ in range(20):
        s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()]))])
    # Of twenty calls, four at least find no room.
    for _ in range(4):
        reply = s.recv(65536)
        assert b"-32000" in reply, reply
    sockets.append(s)
print("hoarded", flush=True)
sys.stdin.read()
"#;

#[test]
fn a_user_who_lets_calls_wait_for_ever_keeps_nobody_else_from_being_served() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    alone!();
    if !can_be_others() {
        return;
    }
    let mut limits = Limits::default();
    (limits.user_deferred, limits.user_descriptors) = (500, 100);
    let (server, asked) = serve_asking(Kind::Seqpacket, limits.clone(), &["store"]);
    for path in [server.path.parent().unwrap(), &server.path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let before = open_fds();
    let mut hoarder = Command::new("python3")
        .args(["-c", HOARD])
        .arg(&server.path)
        .current_dir("/")
        .uid(4711)
        .gid(4711)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = hoarder.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "hoarded\n");
    let hoarded: Vec<Verdict> = asked.try_iter().collect();
    assert_eq!(server.stats().deferred, hoarded.len());
    let room = limits.user_descriptors.min(limits.user_deferred);
    assert_eq!(hoarded.len(), room, "as many as its user has room for");
    let mut client = client(&server, Kind::Seqpacket);
    let null = File::open("/dev/null").unwrap();
    for _ in 0..100 {
        assert_eq!(ask(&mut client, &call(1, "peek", "{}"))["result"], 0);
        let store = call(2, "store", r#"{"files":[0]}"#);
        send_raw(&client, store.as_bytes(), &[null.as_fd()]).unwrap();
        next(&asked).allow();
        assert_eq!(receive(&mut client)["result"], 1);
    }
    drop((hoarder.stdin.take(), client, null));
    assert!(hoarder.wait().unwrap().success());
    server.assert_busy_with(0);
    assert!(hoarded.iter().all(|verdict| !verdict.is_wanted()));
    drop(hoarded);
    drop(hoarder);
    assert_open_fds(before);
}
