//! Our client calls a server in Python.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use jsoncomm::socket::{DATAGRAM_MAX, Socket};
use jsoncomm::{CallError, Connection, Fault, Kind, Message};
use jsoncomm_tests::{KINDS, PATIENCE, alone, assert_open_fds, open_fds};
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
use serde_json::json;

use crate::peers::python::{Mode, Python};
use crate::peers::service::{
    Ask, DeskClient, DeskError, Echoed, Papers, Seen, Tell, seen, seen_by_python,
};

/// No arguments.
#[derive(Debug, Message)]
struct Nothing {}

/// Starts a server in Python. The files are beside its socket.
fn served(kind: Kind, mode: Mode) -> (Python, Papers) {
    let papers = Papers::new();
    let python = Python::server(&papers.directory.path().join("python.sock"), kind, mode);
    (python, papers)
}

fn socket(papers: &Papers, kind: Kind) -> Socket {
    let path = papers.directory.path().join("python.sock");
    let mut socket = Socket::connect(path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}

fn connection(papers: &Papers) -> Connection {
    let path = papers.directory.path().join("python.sock");
    Connection::open(path).unwrap().with_timeout(PATIENCE)
}

fn swap(text: &str, papers: &Papers) -> Ask {
    Ask::Swap {
        text: text.into(),
        left: Papers::open(&papers.left),
        right: Papers::open(&papers.right),
    }
}

/// Returns two files that came back swapped, in their original order.
fn unswapped(left: &File, right: &File) -> [Seen; 2] {
    [seen(right), seen(left)]
}

/// Returns the reply to a swap, with the files in their original order.
fn swapped(tell: Tell) -> (String, [Seen; 2]) {
    match tell {
        Tell::Swapped { text, left, right } => (text, unswapped(&left, &right)),
        other => panic!("{other:?}"),
    }
}

fn opened(tell: Tell) -> (u64, Seen) {
    match tell {
        Tell::Opened { len, file } => (len, seen(&file)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_socket_exchanges_bare_messages_with_python() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Bare);
        let both = papers.both();
        let mut socket = socket(&papers, kind);

        let text = String::from("größe \u{1F600} \n");
        socket.send(&Ask::Echo { text: text.clone() }).unwrap();
        let (tell, _) = socket.receive::<Tell>().unwrap();
        assert!(matches!(tell, Tell::Echoed { text: back } if back == text));
        assert_eq!(python.receive()["files"], json!([]));

        let path = papers.left.to_str().unwrap().to_owned();
        socket.send(&Ask::Open { path }).unwrap();
        let (tell, _) = socket.receive::<Tell>().unwrap();
        assert_eq!(opened(tell), (14, both[0].clone()));
        python.receive();

        let none = papers.none().to_str().unwrap().to_owned();
        socket.send(&Ask::Open { path: none.clone() }).unwrap();
        let (tell, _) = socket.receive::<Tell>().unwrap();
        assert!(matches!(tell, Tell::NotFound { path } if path == none));
        python.receive();

        socket.send(&swap("t", &papers)).unwrap();
        let (tell, _) = socket.receive::<Tell>().unwrap();
        assert_eq!(swapped(tell), ("t".into(), both.clone()));
        assert_eq!(seen_by_python(&python.receive()["files"]), both);
        drop(socket);
        python.end();
    }
}

#[test]
fn a_stub_and_an_enum_call_python() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Calls);
        let both = papers.both();
        let connection = connection(&papers);
        let client = DeskClient::new(connection.clone());

        let text = "größe \u{1F600} \n";
        assert_eq!(client.echo(text).unwrap(), Echoed { text: text.into() });
        assert_eq!(python.receive()["files"], json!([]));

        let back = client.open(papers.left.to_str().unwrap()).unwrap();
        assert_eq!((back.len, seen(&back.file)), (14, both[0].clone()));
        python.receive();

        let files = [&papers.left, &papers.right].map(|path| Papers::open(path));
        let back = client.swap("t", &files[0], &files[1]).unwrap();
        assert_eq!(back.text, "t");
        assert_eq!(unswapped(&back.left, &back.right), both);
        assert_eq!(seen_by_python(&python.receive()["files"]), both);

        let path = papers.right.to_str().unwrap().to_owned();
        let tell = connection.request(&Ask::Open { path }).unwrap();
        assert_eq!(opened(tell), (15, both[1].clone()));
        python.receive();

        let tell = connection.request(&swap("t", &papers)).unwrap();
        assert_eq!(swapped(tell), ("t".into(), both.clone()));
        assert_eq!(seen_by_python(&python.receive()["files"]), both);

        let path = papers.none().to_str().unwrap().to_owned();
        let none = connection
            .request(&Ask::Open { path: path.clone() })
            .unwrap();
        assert!(matches!(none, Tell::NotFound { path: found } if found == path));
        python.receive();
        drop((client, connection));
        python.end();
    }
}

#[test]
fn a_service_error_from_python_is_typed() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Calls);
        let client = DeskClient::new(connection(&papers));
        let none = papers.none().to_str().unwrap().to_owned();
        match client.open(&none) {
            Err(CallError::Service(DeskError::NotFound { path })) => assert_eq!(path, none),
            other => panic!("{other:?}"),
        }
        python.receive();
        drop(client);
        python.end();
    }
}

#[test]
fn a_fault_from_python_has_its_code_and_field() {
    #[derive(Debug, Message)]
    struct Wrong {
        path: u32,
    }
    #[derive(Debug, Message)]
    struct Surplus {
        text: String,
        #[fd]
        file: OwnedFd,
    }

    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Calls);
        let connection = connection(&papers);
        let fault = |reply: Result<Echoed, CallError>| match reply {
            Err(CallError::Fault(Fault { code, field, .. })) => (code, field),
            other => panic!("{other:?}"),
        };

        let reply = connection.call("example.desk.nothing", &Nothing {});
        assert_eq!(fault(reply), (Fault::METHOD_NOT_FOUND, None));
        python.receive();
        let reply = connection.call("example.desk.open", &Wrong { path: 5 });
        assert_eq!(fault(reply), (Fault::INVALID_PARAMS, Some("path".into())));
        python.receive();
        let reply = connection.call("example.desk.open", &Nothing {});
        assert_eq!(fault(reply), (Fault::INVALID_PARAMS, Some("path".into())));
        python.receive();
        let file = Papers::open(&papers.left).into();
        let surplus = Surplus {
            text: "t".into(),
            file,
        };
        let reply = connection.call("example.desk.echo", &surplus);
        assert_eq!(fault(reply), (Fault::INVALID_PARAMS, Some("file".into())));
        python.receive();
        let reply = connection.call("example.desk.swap", &("t", 0, 1));
        assert_eq!(
            fault(reply),
            (Fault::INVALID_DESCRIPTORS, Some("left".into()))
        );
        python.receive();
        drop(connection);
        python.end();
    }
}

#[test]
fn python_takes_arguments_by_position_and_sends_no_reply_to_notifications() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Calls);
        let connection = connection(&papers);
        let client = DeskClient::new(connection.clone());
        client.note("python does not know this method").unwrap();
        connection
            .notify("example.desk.echo", &("unheard",))
            .unwrap();
        let reply: Result<Echoed, CallError> = connection.call("example.desk.echo", &("t",));
        assert_eq!(reply.unwrap(), Echoed { text: "t".into() });
        for _ in 0..3 {
            python.receive();
        }
        drop((client, connection));
        python.end();
    }
}

#[test]
fn unknown_members_and_descriptors_of_a_reply_from_python_are_ignored_and_closed() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Calls);
        let connection = connection(&papers);
        let before = open_fds();
        let reply: Result<Echoed, CallError<Infallible>> =
            connection.call("example.desk.more", &Nothing {});
        assert_eq!(
            reply.unwrap(),
            Echoed {
                text: "more".into()
            }
        );
        assert_open_fds(before);
        python.receive();
        drop(connection);
        python.end();
    }
}

#[test]
fn a_socket_sends_python_small_messages_inline_and_large_ones_by_memfd() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Bare);
        let both = papers.both();
        let mut socket = socket(&papers, kind);
        // The initial size of a socket, for which the kernel surely finds memory.
        set_socket_send_buffer_size(&socket, 1 << 16).unwrap();
        let most = socket_send_buffer_size(&socket).unwrap() - 32;
        for (over, how) in [(0, "inline"), (1, "memfd"), (100_000, "memfd")] {
            let frame = r#"{"Echo":{"text":""}}"#.len();
            let text = "x".repeat(most + over - frame);
            socket.send(&Ask::Echo { text: text.clone() }).unwrap();
            let came = python.receive();
            assert_eq!(
                (&came["received"], &came["bytes"]),
                (&json!(how), &json!(most + over))
            );
            let (tell, _) = socket.receive::<Tell>().unwrap();
            assert!(matches!(tell, Tell::Echoed { text: back } if back == text));

            let frame = r#"{"Swap":{"text":"","left":0,"right":1}}"#.len();
            let text = "x".repeat(most + over - frame);
            socket.send(&swap(&text, &papers)).unwrap();
            let came = python.receive();
            assert_eq!(
                (&came["received"], &came["bytes"]),
                (&json!(how), &json!(most + over))
            );
            assert_eq!(seen_by_python(&came["files"]), both);
            let (tell, _) = socket.receive::<Tell>().unwrap();
            assert_eq!(swapped(tell), (text, both.clone()));
        }
        drop(socket);
        python.end();
    }
}

#[test]
fn a_call_larger_than_any_datagram_reaches_python_and_is_returned() {
    alone!();
    for kind in KINDS {
        let (mut python, papers) = served(kind, Mode::Calls);
        let both = papers.both();
        let connection = connection(&papers);
        let files = [&papers.left, &papers.right].map(|path| Papers::open(path));
        let text = "x".repeat(DATAGRAM_MAX);
        let client = DeskClient::new(connection.clone());
        assert!(
            matches!(client.echo(&text), Err(CallError::NotSent(_))),
            "beyond the default limit"
        );
        connection.set_message_limit(16 << 20);
        let back = client.swap(&text, &files[0], &files[1]).unwrap();
        assert_eq!(back.text, text);
        assert_eq!(unswapped(&back.left, &back.right), both);
        let came = python.receive();
        assert_eq!(came["received"], "memfd");
        assert_eq!(seen_by_python(&came["files"]), both);
        drop((client, connection));
        python.end();
    }
}

#[test]
fn a_descriptor_from_python_is_the_same_open_file() {
    alone!();
    let (mut python, papers) = served(Kind::Seqpacket, Mode::Calls);
    let client = DeskClient::new(connection(&papers));
    let log = tempfile::tempfile().unwrap();
    let other = Papers::open(&papers.right);
    let swapped = client.swap("", log.as_fd(), &other).unwrap();
    // Data written through the returned descriptor is read through the one that was sent.
    swapped.right.write_at(b"written", 0).unwrap();
    assert_eq!(seen(&swapped.right), seen(&log));
    let mut text = [0; 7];
    log.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"written");
    python.receive();
    drop(client);
    python.end();
}
