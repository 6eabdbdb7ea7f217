//! Raw datagrams.

use std::os::fd::AsFd;

use jsoncomm::socket::{RawDatagram, Received, SendStatus, Socket};
use jsoncomm_tests::{KINDS, pair, send_raw};

use super::file;

#[test]
fn a_raw_datagram_with_any_content_can_be_forwarded() {
    for kind in KINDS {
        let (client, mut front) = pair(kind);
        let (mut back, mut server) = pair(kind);
        let null = file("/dev/null");
        let texts: [&[u8]; 4] = [
            b"{\"a\": 1}",
            b"no JSON at all",
            b"\xff\0",
            &[b' '; 300_000],
        ];
        front.set_message_limit(1 << 20);
        for bytes in texts {
            let fd = null.as_fd();
            match bytes.len() {
                // More than fits inline: sent as the library does.
                300_000 => {
                    let raw = RawDatagram {
                        bytes: bytes.to_vec(),
                        ..RawDatagram::default()
                    };
                    let client = client.as_fd().try_clone_to_owned().unwrap();
                    let mut client = Socket::from_fd(client).unwrap();
                    assert_eq!(client.try_send_raw(&raw, None).unwrap(), SendStatus::Done);
                }
                _ => send_raw(&client, bytes, &[fd, fd]).unwrap(),
            }
            let (raw, _) = front.receive_raw().unwrap();
            assert_eq!(back.try_send_raw(&raw, None).unwrap(), SendStatus::Done);
            let Received::Message(passed, _) = server.try_receive_raw().unwrap() else {
                unreachable!("it has been sent")
            };
            assert_eq!(passed.bytes, bytes);
            assert_eq!(passed.fds.len(), raw.fds.len());
            assert!(passed.peer.is_none(), "the sender was not requested");
        }
        assert!(matches!(
            server.try_receive_raw().unwrap(),
            Received::Pending
        ));
    }
}

#[test]
fn a_raw_datagram_has_its_sender_if_requested() {
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        rustix::net::sockopt::set_socket_passcred(&right, true).unwrap();
        left.send("hello").unwrap();
        let peer = right.receive_raw().unwrap().0.peer.unwrap();
        assert_eq!(peer.pid(), Some(std::process::id()));
        assert_eq!(peer.uid(), rustix::process::getuid().as_raw());
        // This process may have passed on the other end.
        assert_eq!(left.peer(), None);
    }
}
