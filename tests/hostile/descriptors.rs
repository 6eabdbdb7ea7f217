//! Descriptors in several control messages, and a socket that is sent through itself.

use std::io::IoSlice;
use std::mem::MaybeUninit;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::*;

/// Sends a datagram with two control messages of one descriptor each.
fn send_twice(raw: &Socket, text: &str, fd: BorrowedFd<'_>) {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let fds = [fd];
    for _ in 0..2 {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    let bytes = [IoSlice::new(text.as_bytes())];
    sendmsg(raw, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
}

#[test]
fn two_control_messages_are_received_as_one() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        send_twice(&fixture.raw, &call(5, "join", "[0,1]"), null.as_fd());
        assert_eq!(fixture.receive().0["result"], 2);
        for (method, params) in [("swap", r#"["x",0]"#), ("ping", "[1]"), ("join", "[0,2]")] {
            send_twice(&fixture.raw, &call(5, method, params), null.as_fd());
            let (reply, fds) = fixture.receive();
            assert_eq!(
                reply["error"]["code"],
                Fault::INVALID_DESCRIPTORS,
                "{reply}"
            );
            assert!(fds.is_empty());
            fixture.assert_healthy();
        }
        drop(null);
        let (_, counts) = fixture.stop();
        assert_eq!(counts.refused, 3);
    }
}

#[test]
fn a_socket_sent_through_itself_is_returned_or_closed() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let itself = fixture.raw.as_fd().try_clone_to_owned().unwrap();
        fixture.count_fds();
        fixture.send(call(5, "swap", r#"["x",0]"#), &[itself.as_fd()]);
        let (reply, fds) = fixture.receive();
        assert_eq!((&reply["result"]["label"], fds.len()), (&json!("x"), 1));
        drop(fds);
        fixture.assert_refused(
            call(5, "ping", "[1]"),
            &[itself.as_fd()],
            5,
            Fault::INVALID_DESCRIPTORS,
            None,
        );
        fixture.assert_ignored(
            r#"{"jsonrpc":"2.0","method":"test.vault.tell","params":[0]}"#,
            &[itself.as_fd()],
        );
        drop(itself);
        fixture.stop();
    }
}

/// The kernel detects that such a socket is unreachable.
#[test]
fn a_client_referenced_only_by_its_own_replies_is_disconnected() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        for _ in 0..5 {
            let stalled = raw(&fixture.server, kind);
            // Each is also referenced by the unread messages of the other.
            let other = raw(&fixture.server, kind);
            for (from, fd) in [(&stalled, &stalled), (&stalled, &other), (&other, &stalled)] {
                let swap = call(5, "swap", r#"["x",0]"#);
                send_raw(from, swap.as_bytes(), &[fd.as_fd()]).unwrap();
            }
            let answered = fixture.polite.stats().unwrap();
            assert_eq!(answered, 0);
        }
        fixture.assert_healthy();
        fixture.stop();
    }
}
