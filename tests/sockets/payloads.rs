//! Payloads: sizes, numbers of descriptors, errors.

use std::os::fd::AsRawFd;

use jsoncomm_tests::{Slow, needs_proc, nested};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::pwrite;

use super::*;

/// Receives a datagram unchanged, and drops its descriptors.
fn raw(socket: &Socket) -> Vec<u8> {
    let mut bytes = vec![0; 8 << 20];
    let (_, length) = recv(socket, &mut bytes[..], RecvFlags::DONTWAIT).unwrap();
    bytes.truncate(length);
    bytes
}

/// Returns a message of exactly this many bytes of JSON.
fn text_of(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

/// Returns sockets that receive more than fits into a datagram. The send buffer follows the limit up to its maximum.
fn large_pair(kind: Kind) -> (Socket, Socket) {
    let (mut left, mut right) = pair(kind);
    for socket in [&mut left, &mut right] {
        socket.set_message_limit(2 * DATAGRAM_MAX);
    }
    (left, right)
}

/// Returns the length of the longest message that is sent inline.
fn most_inline(socket: &Socket) -> usize {
    let sndbuf = sockopt::socket_send_buffer_size(socket).unwrap();
    (sndbuf - 32).min(DATAGRAM_MAX)
}

#[test]
fn the_send_buffer_follows_the_limit() {
    for kind in KINDS {
        let (mut left, _right) = pair(kind);
        let before = most_inline(&left);
        left.set_message_limit(before + 1);
        let after = most_inline(&left);
        left.set_message_limit(2 * DATAGRAM_MAX);
        let most = most_inline(&left);
        // Up to the maximum of the system.
        assert!(after > before || most == before, "{before} {after} {most}");
        left.set_message_limit(1);
        assert_eq!(most_inline(&left), most, "the send buffer does not shrink");
    }
}

#[test]
fn a_message_goes_inline_up_to_the_send_buffer_and_through_a_memfd_above() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (mut left, mut right) = large_pair(kind);
        let most = most_inline(&left);
        for socket in [&mut left, &mut right] {
            socket.set_message_limit(most + 1);
        }
        left.send(&text_of(most)).unwrap();
        let bytes = raw(&right);
        assert_eq!(bytes.len(), most);
        assert!(bytes.starts_with(b"\"xx"));
        left.send(&text_of(most + 1)).unwrap();
        assert_eq!(raw(&right), b"<args-via-fd>");
        for size in [most, most + 1] {
            left.send(&text_of(size)).unwrap();
            assert_eq!(right.receive::<String>().unwrap().0, text_of(size));
        }
        let files = vec![file("beside")];
        left.send(&Take {
            name: text_of(most),
            files,
        })
        .unwrap_err();
        let files = vec![file("beside")];
        left.send(&Take {
            name: text_of(most - 40),
            files,
        })
        .unwrap();
        let (take, _) = right.receive::<Take>().unwrap();
        assert_eq!(content(&take.files[0]), "beside");
    }
    assert_open_fds(before);
}

#[test]
fn descriptors_are_sent_up_to_the_limit_of_the_kernel() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        for count in [FDS_MAX - 1, FDS_MAX] {
            left.send(&nulls(count)).unwrap();
            assert_eq!(right.receive::<Vec<File>>().unwrap().0.len(), count);
        }
        let error = left.send(&nulls(FDS_MAX + 1)).unwrap_err();
        assert!(matches!(
            error,
            Error::Encode(EncodeError::FdCount {
                count: 254,
                limit: 253
            })
        ));
        assert!(matches!(
            right.try_receive::<Vec<File>>(),
            Ok(Received::Pending)
        ));
    }
    assert_open_fds(before);
}

#[test]
fn a_memfd_payload_counts_as_one_descriptor() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (mut left, mut right) = large_pair(kind);
        let size = most_inline(&left) + 1;
        let large = |count| Take {
            name: text_of(size),
            files: nulls(count),
        };
        left.send(&large(FDS_MAX - 1)).unwrap();
        let (take, _) = right.receive::<Take>().unwrap();
        assert_eq!((take.name.len(), take.files.len()), (size - 2, FDS_MAX - 1));
        let error = left.try_send(&large(FDS_MAX)).unwrap_err();
        assert!(matches!(
            error,
            Error::Encode(EncodeError::FdCount {
                count: 253,
                limit: 252
            })
        ));
        assert!(matches!(right.try_receive::<Take>(), Ok(Received::Pending)));
    }
    assert_open_fds(before);
}

#[test]
fn untyped_messages_keep_json_and_descriptors() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        let json = json!({"any": ["thing", 1, null], "file": 1});
        let fds = Fds::from(vec![file("zero").into(), file("one").into()]);
        left.send(&WithFds {
            json: json.clone(),
            fds,
        })
        .unwrap();
        let (mut message, _) = right.receive::<WithFds<Value>>().unwrap();
        assert_eq!(message.json, json);
        assert_eq!(message.fds.len(), 2);
        let one = File::from(message.fds.take(1).unwrap());
        assert_eq!(content(&one), "one");
        let plain = WithFds {
            json: message.json,
            fds: Fds::new(),
        };
        right.send(&plain).unwrap();
        assert_eq!(left.receive::<WithFds<Value>>().unwrap().0.json, json);
    }
}

#[test]
fn a_bad_message_is_an_error_that_names_the_field_and_the_next_one_is_received() {
    alone!();
    let before = open_fds();
    let null = File::open("/dev/null").unwrap();
    let one: &[BorrowedFd<'_>] = &[null.as_fd()];
    let two: &[BorrowedFd<'_>] = &[null.as_fd(), null.as_fd()];
    let cases: [(&[u8], &[BorrowedFd<'_>], Option<&str>); 12] = [
        (b"{", &[], None),
        (b"\xff", one, None),
        (br#"{"name":"x","files":[]} x"#, &[], None),
        (br#"{"files":[]}"#, &[], Some("name")),
        (br#"{"name":7,"files":[0]}"#, one, Some("name")),
        (br#"{"name":"x","files":7}"#, &[], Some("files")),
        (br#"{"name":"x","files":[0,1]}"#, one, Some("files[1]")),
        (br#"{"name":"x","files":[0,0]}"#, one, Some("files[1]")),
        (br#"{"name":"x","files":[-1]}"#, one, Some("files[0]")),
        (br#"{"name":"x","files":["0"]}"#, one, Some("files[0]")),
        (br#"{"name":"x","files":[0]}"#, two, None),
        (br#"{"name":"x","name":"x","files":[0]}"#, one, Some("name")),
    ];
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        for (text, fds, field) in cases {
            let case = text.escape_ascii();
            send_raw(&left, text, fds).unwrap();
            left.send(&Take {
                name: "next".into(),
                files: nulls(1),
            })
            .unwrap();
            let error = right.receive::<Take>().unwrap_err();
            assert!(error.is_bad_message(), "{case}: {error:?}");
            let Error::Decode(decode) = &error else {
                panic!("{case}: {error:?}")
            };
            assert_eq!(decode.field(), field, "{case}: {error}");
            assert_eq!(right.receive::<Take>().unwrap().0.name, "next", "{case}");
        }
        right.set_surplus(UnusedFds::Close);
        send_raw(&left, br#"{"name":"x","files":[0]}"#, two).unwrap();
        assert_eq!(right.receive::<Take>().unwrap().0.files.len(), 1);
        drop((left, right));
        // The file that the cases send.
        assert_open_fds(before + 1);
    }
}

#[test]
fn a_payload_that_is_not_a_memfd_is_refused_and_the_next_message_received() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        right.set_message_limit(100);
        let null = File::open("/dev/null").unwrap();
        send_raw(&left, b"<args-via-fd>", &[]).unwrap();
        assert!(matches!(
            right.receive::<String>(),
            Err(Error::Payload { .. })
        ));
        send_raw(&left, b"<args-via-fd>", &[null.as_fd()]).unwrap();
        assert!(matches!(
            right.receive::<String>(),
            Err(Error::Payload { .. })
        ));
        send_raw(&left, &[b' '; 101], &[null.as_fd()]).unwrap();
        let error = right.receive::<String>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "received message of 101 bytes exceeds 100"
        );
        assert!(error.is_bad_message());
        send_raw(&left, b"nope", &[]).unwrap();
        let error = right.receive::<String>().unwrap_err();
        assert!(
            matches!(error, Error::Decode(DecodeError::Syntax { .. })),
            "{error:?}"
        );
        let error = left
            .send(&[null][..])
            .and_then(|()| right.receive::<String>().map(|_| ()));
        assert!(matches!(error, Err(Error::Decode(_))));
        left.send("next").unwrap();
        assert_eq!(right.receive::<String>().unwrap().0, "next");
    }
    assert_open_fds(before);
}

#[test]
fn a_write_only_payload_is_an_invalid_message() {
    alone!();
    needs_proc!();
    let before = open_fds();
    for kind in KINDS {
        let (left, mut right) = pair(kind);
        let memfd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(pwrite(&memfd, br#""text""#, 0).unwrap(), 6);
        let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
        for how in [OFlags::WRONLY, OFlags::PATH] {
            let payload = open(&path, how | OFlags::CLOEXEC, Mode::empty()).unwrap();
            send_raw(&left, b"<args-via-fd>", &[payload.as_fd()]).unwrap();
            let error = right.receive::<String>().unwrap_err();
            assert!(error.is_bad_message(), "{error:?}");
            assert!(matches!(error, Error::Payload { .. }), "{error:?}");
            send_raw(&left, b"<args-via-fd>", &[payload.as_fd()]).unwrap();
            let error = right.receive_raw().unwrap_err();
            assert!(error.is_bad_message(), "{error:?}");
        }
        send_raw(&left, b"<args-via-fd>", &[memfd.as_fd()]).unwrap();
        assert_eq!(right.receive::<String>().unwrap().0, "text");
    }
    assert_open_fds(before);
}

#[test]
fn a_payload_is_closed_without_blocking() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let (left, mut right) = pair(kind);
        let before = open_fds();
        // Another thread closes the slow descriptor, and later ones after it.
        let Slow { fd, end } = nested();
        send_raw(&left, b"no message", &[fd.as_fd()]).unwrap();
        drop(fd);
        let error = right.receive::<String>().unwrap_err();
        assert!(error.is_bad_message(), "{error:?}");
        assert_open_fds(before + 1);
        for number in 1..=3 {
            let memfd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            assert_eq!(pwrite(&memfd, br#""text""#, 0).unwrap(), 6);
            send_raw(&left, b"<args-via-fd>", &[memfd.as_fd()]).unwrap();
            drop(memfd);
            assert_eq!(right.receive::<String>().unwrap().0, "text");
            assert_eq!(open_fds(), before + 1 + number, "closed by the receiver");
        }
        drop(end);
        assert_open_fds(before);
    }
}
