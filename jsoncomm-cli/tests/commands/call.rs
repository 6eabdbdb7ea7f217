//! `jsoncomm call` in a shell: arguments, replies, descriptors and exit status.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::common::{
    self, Double, Ended, Example, contents, ended, file, good, jsoncomm, run, said, text,
};
use jsoncomm::message::RawMessage;
use jsoncomm::{Call, Kind, Reply, Stream};
use jsoncomm_tests::{KINDS, Running, pair};

#[test]
fn a_reply_is_printed_on_one_line_with_nothing_else() {
    for kind in KINDS {
        let example = Example::start(kind);
        example.write("a.txt", "one");
        example.write("b.txt", "two");
        let list = said(&["call", example.address(), "example.files.list"]);
        assert_eq!(
            (list.code, &*list.stdout, &*list.stderr),
            (Some(0), "[\"a.txt\",\"b.txt\"]\n", "")
        );
        let open = [
            "call",
            example.address(),
            "example.files.open",
            r#"{"path": "a.txt"}"#,
        ];
        assert_eq!(good(said(&open)), "{\"len\":3,\"file\":0}\n");
        // By position.
        let open = [
            "call",
            example.address(),
            "example.files.open",
            r#"["b.txt"]"#,
        ];
        assert_eq!(good(said(&open)), "{\"len\":3,\"file\":0}\n");
    }
}

#[test]
fn numbers_and_the_order_of_members_are_kept() {
    let odd = r#"{"z":123456789012345678901234567890.5e-3,"a":-0,"m":[1E+2,340282366920938463463374607431768211456],"\u00e4":"\/"}"#;
    let double = Double::result(odd, Vec::new());
    let params = r#"{"y":1.000,"b":98765432109876543210987}"#;
    let ended = said(&["call", double.address(), "a.b", params]);
    assert_eq!(good(ended), format!("{odd}\n"));
    let heard = double.heard().remove(0);
    assert!(heard.contains(params), "{heard}");
}

#[test]
fn the_address_can_come_from_the_environment() {
    let example = Example::start(Kind::Seqpacket);
    let mut list = jsoncomm(&["call", "example.files.list"]);
    assert_eq!(
        good(run(list.env("JSONCOMM_ADDRESS", example.address()))),
        "[]\n"
    );
    let mut list = jsoncomm(&["call", example.address(), "example.files.list"]);
    assert_eq!(
        good(run(list.env("JSONCOMM_ADDRESS", "/not/there"))),
        "[]\n"
    );
    // Here a name without a slash is a path as well.
    let mut list = jsoncomm(&["call", "example.files.list"]);
    list.env("JSONCOMM_ADDRESS", "test.sock");
    list.current_dir(example.server.path.parent().unwrap());
    assert_eq!(good(run(&mut list)), "[]\n");
    let Ended { code, stderr, .. } = said(&["call", "list"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("no address"), "{stderr}");
}

#[test]
fn abstract_names_and_inherited_descriptors_are_addresses() {
    let name = format!("@jsoncomm-cli-{}", std::process::id());
    let address = jsoncomm::address::Address::abstract_name(&name[1..]).unwrap();
    let mut socket = jsoncomm::socket::Socket::bind(address).unwrap();
    assert_eq!(good(said(&["call", "--oneway", &name, "a.b", "[7]"])), "");
    assert!(common::heard(&mut socket).contains(r#""params":[7]"#));

    for kind in KINDS {
        let (mut near, far) = pair(kind);
        let mut command = jsoncomm(&["call", "--bare", "fd:0", "[\"hello\"]"]);
        let far: OwnedFd = std::os::fd::AsFd::as_fd(&far).try_clone_to_owned().unwrap();
        command.stdin(far).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        assert_eq!(common::heard(&mut near), "[\"hello\"]");
        near.send(&RawMessage::new("{\"b\":1, \"a\":2}")).unwrap();
        assert_eq!(good(ended(child)), "{\"b\":1,\"a\":2}\n");
    }
    let Ended { code, stderr, .. } = said(&["call", "fd:99", "a.b"]);
    assert_eq!(code, Some(4), "{stderr}");
}

#[test]
fn a_program_started_for_the_call_gets_the_socket_as_descriptor_3() {
    // The program is this command again, which calls back through the socket. Each side receives what the other
    // sends, so neither exits before the other has sent.
    for kind in ["seqpacket", "datagram"] {
        let program = format!(
            "exec:sh -c 'test $LISTEN_PID = $$ && test $LISTEN_FDS = 1 && test $JSONCOMM_PARENT_FD = 3 && exec {} call --bare fd:3 [1] >/dev/null'",
            env!("CARGO_BIN_EXE_jsoncomm")
        );
        let ended = said(&["call", "--kind", kind, "--bare", &program, "[2]"]);
        assert_eq!(good(ended), "[1]\n");
    }
    // A program that sends no reply and keeps running is killed.
    let ended = said(&[
        "call",
        "--bare",
        "--timeout",
        "50ms",
        "exec:sleep 1000",
        "[2]",
    ]);
    assert_eq!(ended.code, Some(124), "{ended:?}");
    let ended = said(&["call", "exec:true", "a.b"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
}

#[test]
fn arguments_can_come_from_standard_input_or_a_file() {
    let example = Example::start(Kind::Seqpacket);
    example.write("a.txt", "one");
    let json = example.write("args.json", "{\"path\":\n\"a.txt\"}\n");
    for from in [String::from("-"), format!("@{}", json.display())] {
        let mut open = jsoncomm(&["call", example.address(), "example.files.open", &from]);
        open.stdin(File::open(&json).unwrap());
        assert_eq!(good(run(&mut open)), "{\"len\":3,\"file\":0}\n");
    }
    let Ended { code, stderr, .. } = said(&["call", example.address(), "a.b", "@/not/there"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("/not/there: No such file"), "{stderr}");
}

#[test]
fn a_file_can_be_passed_as_an_argument() {
    for kind in KINDS {
        let example = Example::start(kind);
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("in=put");
        std::fs::write(&path, "some text").unwrap();
        let content = format!("content={}", path.display());
        let put = [
            "call",
            example.address(),
            "example.files.put",
            r#"{"path":"copy.txt"}"#,
            "--fd",
            &content,
        ];
        assert_eq!(good(said(&put)), "{\"len\":9}\n");
        assert_eq!(text(example.folder.path().join("copy.txt")), "some text");
        // Standard input, in the other order.
        let mut input = File::from(file("more text"));
        input.rewind().unwrap();
        let mut put = jsoncomm(&["call", "--fd", "content=-", example.address()]);
        put.args(["example.files.put", r#"{"path":"copy.txt"}"#]);
        assert_eq!(good(run(put.stdin(input))), "{\"len\":9}\n");
        assert_eq!(text(example.folder.path().join("copy.txt")), "more text");
    }
}

#[test]
fn files_can_be_passed_in_arrays_and_objects_and_for_writing() {
    let (mut near, far) = pair(Kind::Seqpacket);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("first"), "1st").unwrap();
    std::fs::write(at("second"), "2nd").unwrap();
    let lend = [
        format!("files[0]={}", at("first")),
        format!("files[1]={}", at("second")),
        format!("log.sink={}:rw", at("new")),
    ];
    let mut command = jsoncomm(&["call", "--bare", "--oneway", "fd:0", r#"{"n":1.0}"#]);
    for lend in &lend {
        command.args(["--fd", lend]);
    }
    let far: OwnedFd = std::os::fd::AsFd::as_fd(&far).try_clone_to_owned().unwrap();
    assert_eq!(good(run(command.stdin(far))), "");
    let (mut raw, _) = near.receive_raw().unwrap();
    assert_eq!(
        String::from_utf8(raw.bytes).unwrap(),
        r#"{"n":1.0,"files":[0,1],"log":{"sink":2}}"#
    );
    assert_eq!(contents(raw.fds.take(0).unwrap()), "1st");
    assert_eq!(contents(raw.fds.take(1).unwrap()), "2nd");
    let mut sink = File::from(raw.fds.take(2).unwrap());
    sink.write_all(b"written").unwrap();
    assert_eq!(text(at("new")), "written");

    for (lend, complaint) in [
        ("n=/dev/null", "the JSON has a value there already"),
        ("n.x=/dev/null", "no object for that member"),
        ("x=/not/there", "No such file"),
    ] {
        let Ended { code, stderr, .. } = said(&["call", "./a", "a.b", r#"{"n":1}"#, "--fd", lend]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(complaint), "{stderr}");
    }
}

#[test]
fn the_content_of_a_descriptor_is_saved() {
    let example = Example::start(Kind::Seqpacket);
    example.write("a.txt", "one\n");
    let to = example.folder.path().join("saved");
    let save = format!("file={}", to.display());
    let open = [
        "call",
        example.address(),
        "example.files.open",
        r#"{"path":"a.txt"}"#,
    ];
    let ended = run(jsoncomm(&open).args(["--save", &save]));
    assert_eq!(good(ended), "{\"len\":4,\"file\":0}\n");
    assert_eq!(text(to), "one\n");
    let ended = run(jsoncomm(&open).args(["--save", "file=-"]));
    assert_eq!(
        (&*ended.stdout, &*ended.stderr),
        ("one\n", "{\"len\":4,\"file\":0}\n")
    );
    // The field is not a descriptor.
    let ended = run(jsoncomm(&open).args(["--save", "len=-"]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.stderr.contains("has no descriptor at len"),
        "{ended:?}"
    );
    // The whole reply is a descriptor.
    let double = Double::result("0", vec![file("bare")]);
    let ended = said(&["call", double.address(), "a.b", "--save", ".=-"]);
    assert_eq!(ended.stdout, "bare", "{ended:?}");
}

#[test]
fn a_program_is_executed_with_the_descriptors_from_3_on() {
    if !jsoncomm_tests::has_proc() {
        return;
    }
    let result = r#"{"count":7,"first":1,"rest":[0,{"last":2}]}"#;
    let fds = vec![file("zero"), file("one"), file("two")];
    let double = Double::result(result, fds);
    let script = r#"cat <&3; cat <&4; cat <&5; test $LISTEN_PID = $$; echo " $? $LISTEN_FDS $LISTEN_FDNAMES $1"; ls /proc/$$/fd; exit 7"#;
    let ended = said(&[
        "call",
        double.address(),
        "a.b",
        "--exec",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "word",
    ]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let mut lines = ended.stdout.lines();
    assert_eq!(
        lines.next(),
        Some("zeroonetwo 0 3 rest[0]:first:rest[1].last word")
    );
    // Nothing else is inherited: 10 and up belong to the shell.
    let open: Vec<u32> = lines.map(|line| line.parse().unwrap()).collect();
    let low: Vec<u32> = open.into_iter().filter(|number| *number < 10).collect();
    assert_eq!(low, [0, 1, 2, 3, 4, 5]);
    assert_eq!(ended.stderr, format!("{result}\n"));

    let double = Double::result("[]", Vec::new());
    let ended = said(&[
        "call",
        double.address(),
        "a.b",
        "--exec",
        "--",
        "/not/there",
    ]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn a_message_without_envelope_gets_a_reply_without_envelope() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bare.sock");
        let mut command = jsoncomm(&["call", "--bare", path.to_str().unwrap(), " {\"a\" : 1e2}"]);
        let bound = jsoncomm_tests::Bound::at(&path, kind).unwrap();
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        assert!(common::is_readable(&bound, jsoncomm_tests::PATIENCE));
        let (mut socket, listener) = match bound {
            jsoncomm_tests::Bound::Datagram(socket) => (socket, None),
            jsoncomm_tests::Bound::Seqpacket(listener) => {
                (listener.accept().unwrap().unwrap(), Some(listener))
            }
        };
        socket.set_timeout(Some(jsoncomm_tests::PATIENCE));
        let (raw, sender) = socket.receive_raw().unwrap();
        assert_eq!(raw.bytes, b"{\"a\" : 1e2}");
        let reply = RawMessage::new("[1e2]");
        match sender.filter(|_| listener.is_none()) {
            Some(sender) => socket.send_to(&reply, &sender).unwrap(),
            None => socket.send(&reply).unwrap(),
        }
        assert_eq!(good(ended(child)), "[1e2]\n");
    }
}

#[jsoncomm::service(name = "test.ticks")]
trait Ticks {
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32, String>;
    fn never(&mut self, call: &mut Call) -> Stream<u32>;
    #[oneway]
    fn note(&mut self, text: &str);
}

#[derive(Default)]
struct Clock {
    notes: Vec<String>,
    sinks: Vec<jsoncomm::stream::StreamSender<u32>>,
}

impl Ticks for Clock {
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32, String> {
        let last = (end == 7).then(|| Err(String::from("seven")));
        call.stream(|sink| sink.feed((0..end).map(Ok).chain(last)))
    }

    fn never(&mut self, call: &mut Call) -> Stream<u32> {
        call.stream(|sink| {
            sink.send(&1).unwrap();
            self.sinks.push(sink);
        })
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn clock(kind: Kind) -> (Running<Clock>, String) {
    let server = Running::start(kind, Clock::default(), |endpoint| {
        endpoint.serve::<dyn Ticks>()
    });
    let path = server.path.display().to_string();
    (server, path)
}

#[test]
fn items_of_a_stream_are_printed_on_one_line_each() {
    for kind in KINDS {
        let (_server, path) = clock(kind);
        let count = said(&["call", "--follow", &path, "test.ticks.count", "[3]"]);
        assert_eq!(good(count), "0\n1\n2\n");
        let count = said(&["call", "--follow", &path, "test.ticks.count", "[7]"]);
        assert_eq!(count.stdout, "0\n1\n2\n3\n4\n5\n6\n");
        assert_eq!(count.code, Some(1));
        assert!(count.stderr.contains("\"message\":\"seven\""), "{count:?}");
        let arguments = [
            "call",
            "--follow",
            "--timeout",
            "50ms",
            &path,
            "test.ticks.never",
        ];
        let never = said(&arguments);
        assert_eq!(
            (never.code, &*never.stdout),
            (Some(124), "1\n"),
            "{never:?}"
        );
    }
}

#[test]
fn a_stream_without_the_stream_option_is_an_error_that_names_it() {
    for kind in KINDS {
        let (server, path) = clock(kind);
        for command in ["call", "bench"] {
            let ended = said(&[command, &path, "test.ticks.never"]);
            assert_eq!((ended.code, &*ended.stdout), (Some(3), ""), "{ended:?}");
            assert!(ended.stderr.contains("call --follow"), "{ended:?}");
        }
        let reply = "--save .=-";
        let saved: Vec<_> = reply.split(' ').collect();
        let ended = said(&[&["call", &path, "test.ticks.never"], &saved[..]].concat());
        assert_eq!((ended.code, &*ended.stdout), (Some(3), ""), "{ended:?}");
        // None is left at the server.
        said(&["call", "--follow", &path, "test.ticks.count", "[0]"]);
        let sinks = server.stop().0.sinks;
        assert_eq!(sinks.iter().filter(|sink| sink.is_wanted()).count(), 0);
    }
}

#[test]
fn a_notification_prints_nothing() {
    for kind in KINDS {
        let (server, path) = clock(kind);
        let note = r#"{"text":"seen"}"#;
        let ended = said(&["call", "--oneway", &path, "test.ticks.note", note]);
        assert_eq!(good(ended), "");
        // It is handled before the calls after it.
        said(&["call", "--follow", &path, "test.ticks.count", "[0]"]);
        assert_eq!(server.stop().0.notes, ["seen"]);
    }
}

#[test]
fn closing_the_output_of_a_stream_ends_it_without_an_error() {
    let (server, path) = clock(Kind::Seqpacket);
    let shell = format!(
        "{} call --follow {path} test.ticks.count '[1000000]' | head -n 2",
        env!("CARGO_BIN_EXE_jsoncomm")
    );
    let ended = run(std::process::Command::new("sh").args(["-c", &shell]));
    assert_eq!((&*ended.stdout, &*ended.stderr), ("0\n1\n", ""));
    server.assert_busy_with(0);
}

#[test]
fn the_kind_of_socket_can_be_set() {
    let example = Example::start(Kind::Datagram);
    let list = [
        "call",
        "--kind",
        "datagram",
        example.address(),
        "example.files.list",
    ];
    assert_eq!(good(said(&list)), "[]\n");
    let list = [
        "call",
        "--kind",
        "seqpacket",
        example.address(),
        "example.files.list",
    ];
    let ended = said(&list);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains("socket of another kind"), "{ended:?}");
}

#[test]
fn each_outcome_has_its_exit_status() {
    let example = Example::start(Kind::Seqpacket);
    let call = |arguments: &[&str]| {
        let arguments = [&["call", example.address()], arguments].concat();
        said(&arguments)
    };
    // 1: the error of the service, unchanged.
    let ended = call(&["example.files.open", r#"{"path":"not-there"}"#]);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert_eq!(
        ended.stderr,
        "{\"code\":1,\"message\":\"no file not-there\",\"data\":{\"NotFound\":{\"path\":\"not-there\"}}}\n"
    );
    // 2: the command line.
    for (arguments, complaint) in [
        (&["a.b", "{"][..], "the argument { is not JSON: EOF"),
        (&["a.b", "7"], "the argument 7 cannot be the arguments"),
        (&["a.b", r#"{"a":1,"a":2}"#], "key \"a\" is repeated"),
        (&["a.b", "{}", "--unknown"], "--unknown"),
        (&["a.b", "{}", "--timeout", "soon"], "not a time"),
        (&["a.b", "{}", "--", "true"], "--exec"),
        (&["a.b", "{}", "--exec"], "CMD"),
        (&[], "METHOD is missing"),
    ] {
        let ended = call(arguments);
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains(complaint), "{complaint}: {ended:?}");
    }
    // 3: a fault.
    let ended = call(&["example.files.close"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(3), ""));
    assert_eq!(
        ended.stderr,
        "jsoncomm: unknown method example.files.close (-32601)\n"
    );
    let ended = call(&["example.files.open", r#"{"file":1}"#]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    // 4: no server.
    let ended = said(&["call", "/not/there.sock", "a.b"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(4), ""));
    assert_eq!(
        ended.stderr,
        "jsoncomm: cannot connect: address /not/there.sock does not exist\n"
    );
    // 124: timeout.
    let double = Double::start(vec![vec![]]);
    let ended = said(&["call", "--timeout", "0.05", double.address(), "a.b"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(124), ""));
    assert_eq!(ended.stderr, "jsoncomm: the deadline passed\n");
}

#[test]
fn a_server_that_closes_before_its_reply_has_its_own_exit_status() {
    let (near, far) = pair(Kind::Seqpacket);
    let far: OwnedFd = std::os::fd::AsFd::as_fd(&far).try_clone_to_owned().unwrap();
    drop(near);
    let ended = run(jsoncomm(&["call", "fd:0", "a.b"]).stdin(far));
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains("closed the connection"), "{ended:?}");
}

#[test]
fn an_error_without_data_is_a_service_error() {
    let double = Double::text(r#"{"jsonrpc":"2.0","id":ID,"error":{"code":5,"message":"no"}}"#);
    let ended = said(&["call", double.address(), "a.b"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr, "{\"code\":5,\"message\":\"no\"}\n");
}

#[test]
fn a_hostile_reply_ends_the_call_and_is_not_printed() {
    for (reply, code) in [
        // Messages with terminal control sequences.
        (
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"\u001b[2J\u009b\nrm"}}"#,
            3,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":9,"message":"\u001b[2J\u009b"}}"#,
            1,
        ),
        // Invalid replies.
        ("\x1b[2J", 3),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"a":1,"a":2}}"#, 3),
        (r#"{"jsonrpc":"2.0","id":ID,"result":"\ud800"}"#, 3),
        (r#"{"jsonrpc":"2.0","id":ID}"#, 3),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}"#,
            3,
        ),
    ] {
        let double = Double::text(reply);
        let ended = said(&["call", double.address(), "a.b"]);
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(code), ""),
            "{reply}: {ended:?}"
        );
        let acts = |c: char| c.is_control() && c != '\n';
        // Output for a program is JSON, where a C1 control is an ordinary character.
        let acts = |c: char| acts(c) && !(code == 1 && c == '\u{9b}');
        assert!(!ended.stderr.contains(acts), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"result":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    let ended = said(&["call", Double::text(&deep).address(), "a.b"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[test]
fn a_fallback_gets_the_arguments_byte_for_byte() {
    fn echo(
        _: &mut (),
        _: &mut Call,
        _: &str,
        params: RawMessage,
        reply: Reply<RawMessage, jsoncomm::message::RawError>,
    ) {
        reply.send(params);
    }
    let server = Running::start(Kind::Seqpacket, (), |endpoint| endpoint.fallback(echo));
    let path = server.path.display().to_string();
    let large = format!("[\"{}\"]", "x".repeat(900_000));
    let mut call = jsoncomm(&["call", &path, "echo", "-"]);
    call.stdin(File::from(file(&large)));
    assert_eq!(good(run(&mut call)), format!("{large}\n"));
}
