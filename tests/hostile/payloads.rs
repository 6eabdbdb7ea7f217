//! Payloads in a memfd, valid and invalid.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, SealFlags};
use rustix::fs::{ftruncate, mknodat, open};
use rustix::io::pwrite;
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};

use super::closing::{HOUR, send};
use super::*;
use jsoncomm::socket::DATAGRAM_MAX;
use jsoncomm_tests::{SPILLED, memfd, needs_proc, nested};

/// Returns an empty pipe, on which a reader would block.
fn fifo(directory: &std::path::Path) -> OwnedFd {
    let path = directory.join("fifo");
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn a_payload_that_is_not_a_memfd_is_refused_unread() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        fixture.assert_refused(SPILLED, &[], None::<u64>, Fault::INVALID_DESCRIPTORS, None);
        let directory = tempfile::tempdir().unwrap();
        let fifo = fifo(directory.path());
        let (stream, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = null();
        let path = open("/", OFlags::PATH, Mode::empty()).unwrap();
        fixture.count_fds();
        for fd in [fifo.as_fd(), stream.as_fd(), null.as_fd(), path.as_fd()] {
            fixture.assert_refused(
                SPILLED,
                &[fd],
                None::<u64>,
                Fault::INVALID_DESCRIPTORS,
                None,
            );
            let all = vec![fd; 253];
            fixture.assert_refused(SPILLED, &all, None::<u64>, Fault::INVALID_DESCRIPTORS, None);
        }
        drop((fifo, stream, other, null, path));
        let (_, counts) = fixture.stop();
        assert_eq!(counts.refused, 9);
    }
}

#[test]
fn a_memfd_within_the_limit_is_read_from_its_start() {
    alone!();
    let good = call(5, "swap", r#"{"label":"x","file":0}"#);
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();

        let sealed = memfd(good.as_bytes());
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&sealed, seals).unwrap();
        let moved = memfd(good.as_bytes());
        rustix::fs::seek(&moved, rustix::fs::SeekFrom::End(0)).unwrap();
        let fds = [sealed, moved, memfd(good.as_bytes())];
        fixture.count_fds();
        for fd in &fds {
            fixture.send(SPILLED, &[fd.as_fd(), null.as_fd()]);
            let (reply, fds) = fixture.receive();
            assert_eq!(reply["result"], json!({"label": "x", "file": 0}));
            assert_eq!(fds.len(), 1);
            drop(fds);
            // The memfd of the payload does not count: the message lacks a descriptor.
            fixture.assert_refused(
                SPILLED,
                &[fd.as_fd()],
                5,
                Fault::INVALID_DESCRIPTORS,
                Some("file"),
            );
            let all = [fd.as_fd(), null.as_fd(), null.as_fd()];
            fixture.assert_refused(SPILLED, &all, 5, Fault::INVALID_DESCRIPTORS, None);
        }
        drop(fds);
        for (text, id, code) in [
            ("", None, Fault::PARSE_ERROR),
            ("nope", None, Fault::PARSE_ERROR),
            (SPILLED, None, Fault::PARSE_ERROR),
            ("[]", None, Fault::INVALID_REQUEST),
            (
                &good.replace("swap", "none"),
                Some(5),
                Fault::METHOD_NOT_FOUND,
            ),
        ] {
            let fd = memfd(text.as_bytes());
            fixture.count_fds();
            fixture.assert_refused(SPILLED, &[fd.as_fd()], id, code, None);
        }
        drop(null);
        fixture.stop();
    }
}

#[test]
fn a_memfd_beyond_the_limit_is_refused_unread() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let limit = Limits::default().message as u64;
        for size in [limit + 1, 1 << 40, i64::MAX as u64] {
            let fd = memfd(b"x");
            ftruncate(&fd, size).unwrap();
            fixture.count_fds();
            fixture.assert_refused(
                SPILLED,
                &[fd.as_fd()],
                None::<u64>,
                Fault::INVALID_REQUEST,
                None,
            );
        }
        // At the limit it is read, and the rest of it is zeroes.
        let fd = memfd(b"{}");
        ftruncate(&fd, limit).unwrap();
        fixture.count_fds();
        fixture.assert_refused(
            SPILLED,
            &[fd.as_fd()],
            None::<u64>,
            Fault::PARSE_ERROR,
            None,
        );
        drop(fd);
        fixture.stop();
    }
}

#[test]
fn a_memfd_resized_while_it_is_read_affects_only_its_own_message() {
    alone!();
    const ROUNDS: u64 = 300;
    let good = call(5, "ping", r#"{"number":1}"#) + &" ".repeat(200_000);
    let size = good.len() as u64;
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let fd = Arc::new(memfd(good.as_bytes()));
        let over = Arc::new(AtomicBool::new(false));
        let shrinker = std::thread::spawn({
            let (fd, over, good) = (Arc::clone(&fd), Arc::clone(&over), good.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    ftruncate(&*fd, 10).unwrap();
                    ftruncate(&*fd, size).unwrap();
                    assert_eq!(pwrite(&*fd, good.as_bytes(), 0).unwrap(), good.len());
                }
            }
        });
        fixture.count_fds();
        for _ in 0..ROUNDS {
            let reply = fixture.ask(SPILLED, &[fd.as_fd()]);
            let code = reply["error"]["code"].as_i64();
            assert!(
                reply["result"] == 1 || code == Some(Fault::PARSE_ERROR),
                "{reply}"
            );
        }
        over.store(true, Ordering::Relaxed);
        shrinker.join().unwrap();
        fixture.assert_healthy();
        let polite = fixture.pings;
        drop(fd);
        let (_, counts) = fixture.stop();
        assert_eq!(counts.received, ROUNDS + polite);
        assert_eq!(counts.handled + counts.refused, ROUNDS + polite);
    }
}

#[test]
fn a_message_above_the_limit_is_refused_with_its_descriptors() {
    alone!();
    for kind in KINDS {
        // Fits into one datagram of any kernel.
        let limit = 100_000;
        let mut fixture = Fixture::limited(kind, State::default(), limit);
        let null = null();
        fixture.count_fds();
        let long = call(5, "ping", r#"{"number":1}"#) + &" ".repeat(limit);
        let all = vec![null.as_fd(); 253];
        fixture.assert_refused(&long, &[], 5, Fault::INVALID_REQUEST, None);
        fixture.assert_refused(&long, &all, 5, Fault::INVALID_REQUEST, None);
        drop(null);
        let (_, counts) = fixture.stop();
        assert_eq!(counts.refused, 2);
    }
}

#[test]
fn the_largest_possible_datagram_is_refused_by_its_size() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::limited(kind, State::default(), 100_000);
        set_socket_send_buffer_size(&fixture.raw, DATAGRAM_MAX).unwrap();
        let room = socket_send_buffer_size(&fixture.raw).unwrap();
        // Before Linux 6.18 only with a larger wmem_max.
        let size = DATAGRAM_MAX.min(room - 32);
        let null = null();
        let text = call(5, "ping", "[1]") + &" ".repeat(size);
        for fds in [&[][..], &[null.as_fd()]] {
            fixture.count_fds();
            fixture.assert_refused(&text[..size], fds, 5, Fault::INVALID_REQUEST, None);
        }
        drop(null);
        fixture.stop();
    }
}

#[test]
fn a_memfd_that_was_opened_for_writing_only_is_refused() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let memfd = memfd(call(5, "ping", r#"{"number":1}"#).as_bytes());
        let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = open(&path, flags, Mode::empty()).unwrap();
        drop(memfd);
        fixture.count_fds();
        fixture.assert_refused(
            SPILLED,
            &[fd.as_fd()],
            None::<u64>,
            Fault::INVALID_DESCRIPTORS,
            None,
        );
        drop(fd);
        fixture.stop();
    }
}

#[test]
fn a_payload_is_closed_on_another_thread_and_not_counted_as_an_unused_descriptor() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        // All descriptors of this user are closed after this one.
        fixture.count_fds();
        let end = send(&fixture.server, nested(), &fixture.raw, "no call");
        assert!(fixture.receive().0["error"].is_object());
        assert_open_fds(fixture.fds + 1);
        let ping = call(5, "ping", r#"{"number":1}"#);
        for number in 1..=3 {
            let fd = memfd(ping.as_bytes());
            fixture.send(SPILLED, &[fd.as_fd()]);
            drop(fd);
            assert_eq!(fixture.receive().0["result"], 1);
            fixture.ping();
            assert_eq!(open_fds(), fixture.fds + 1 + number, "closed by the loop");
        }
        drop(end);
        fixture.assert_healthy();
        fixture.stop();
    }
}

#[test]
fn payloads_sent_faster_than_they_are_closed_cause_backpressure() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let mut limits = Limits::default();
        (limits.user_descriptors, limits.accept_pause) = (2, HOUR);
        let server = Running::with_limits(limits, kind, State::default(), |endpoint| {
            endpoint.serve::<dyn Vault>()
        });
        let polite = VaultClient::new(server.connect());
        let mut raw = raw(&server, kind);
        let end = send(&server, nested(), &raw, "no call");
        assert!(raw.receive::<WithFds<Value>>().is_ok());
        let ping = call(5, "ping", r#"{"number":1}"#);
        let say = |raw: &Socket| {
            let fd = memfd(ping.as_bytes());
            send_raw(raw, SPILLED.as_bytes(), &[fd.as_fd()]).unwrap();
        };
        // At the limit, and one above: that one is still received.
        for _ in 1..=3 {
            say(&raw);
            let reply = raw.receive::<WithFds<Value>>().unwrap().0.json;
            assert_eq!(reply["result"], 1, "{kind:?}");
        }
        say(&raw);
        server.finish_turn();
        assert!(matches!(
            raw.try_receive::<WithFds<Value>>(),
            Ok(Received::Pending)
        ));
        drop(end);
        let reply = raw.receive::<WithFds<Value>>().unwrap().0.json;
        assert_eq!(reply["result"], 1, "{kind:?}");
        let (_, counts) = server.stop();
        assert_eq!(counts.disconnected, 0);
        drop((raw, polite));
        assert_open_fds(before);
    }
}
