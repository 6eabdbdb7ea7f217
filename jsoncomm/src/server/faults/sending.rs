//! What each error of sendmsg(2) means for a reply with descriptors: it concerns the message, the peer, or a shortage.

use super::*;

/// Makes a call whose reply has descriptors, while the server's sendmsg(2) fails `times` times. The first sendmsg is the
/// client's.
fn swap(world: &mut World, times: usize, errno: Errno) -> Result<Pair, CallError> {
    inject::begin(Some(Plan {
        call: "sendmsg",
        times: 1..1 + times,
        errno,
    }));
    let mut call = world.stub().swap(null(), null())?;
    let mut ended = None;
    world.turn_until("the end of a call", |_| {
        ended = call.try_wait();
        ended.is_some()
    });
    inject::end();
    ended.unwrap()
}

fn world(kind: Kind) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(kind, &directory.path().join("faults.sock"));
    (world, directory)
}

const KINDS: [Kind; 2] = [Kind::Seqpacket, Kind::Datagram];

#[test]
fn a_shortage_makes_a_reply_wait() {
    for kind in KINDS {
        let (mut world, _directory) = world(kind);
        for errno in [
            Errno::AGAIN,
            Errno::INTR,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::TOOMANYREFS,
            Errno::MFILE,
            Errno::NFILE,
        ] {
            for times in [1, 3] {
                assert!(swap(&mut world, times, errno).is_ok(), "{errno} {kind:?}");
                assert_eq!(inject::failed(), times);
            }
        }
        assert_eq!(world.server.counts().undelivered, 0);
        assert_eq!(world.server.stats().backlog, 0);
    }
}

#[test]
fn an_error_about_the_message_becomes_a_fault_that_names_it_and_the_connection_stays() {
    for kind in KINDS {
        let (mut world, _directory) = world(kind);
        for errno in [
            Errno::INVAL,
            Errno::PERM,
            Errno::ACCESS,
            Errno::BADF,
            Errno::IO,
        ] {
            assert!(swap(&mut world, 0, errno).is_ok());
            let connections = world.server.stats().connections;
            let Err(CallError::Fault(fault)) = swap(&mut world, 1, errno) else {
                panic!("no fault for {errno} {kind:?}");
            };
            assert_eq!(fault.code, Fault::INTERNAL_ERROR);
            let named = fault
                .message
                .contains(&std::io::Error::from(errno).to_string());
            assert!(named && fault.message.contains("sendmsg"), "{fault}");
            assert!(swap(&mut world, 0, errno).is_ok());
            assert_eq!(world.server.stats().connections, connections);
        }
        // A message that is too long travels in a memfd.
        assert!(swap(&mut world, 1, Errno::MSGSIZE).is_ok());
    }
}

#[test]
fn an_error_about_the_message_becomes_a_fault_after_it_has_waited_too() {
    for kind in KINDS {
        let (mut world, _directory) = world(kind);
        let mut call = world.stub().swap(null(), null()).unwrap();
        fail("sendmsg", Errno::TOOMANYREFS);
        world.turn_until("a reply that waits", |world| {
            world.server.stats().backlog == 1
        });
        fail("sendmsg", Errno::INVAL);
        let mut ended = None;
        world.turn_until("the end of a call", |_| {
            ended = call.try_wait();
            ended.is_some()
        });
        let Some(Err(CallError::Fault(fault))) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(fault.code, Fault::INTERNAL_ERROR);
    }
}

#[test]
fn an_error_about_the_peer_ends_its_connection() {
    for errno in [
        Errno::PIPE,
        Errno::CONNRESET,
        Errno::NOTCONN,
        Errno::CONNREFUSED,
    ] {
        let (mut world, _directory) = world(Kind::Seqpacket);
        let ended = swap(&mut world, 1, errno);
        assert!(matches!(ended, Err(CallError::Closed)), "{errno} {ended:?}");
    }
}

#[test]
fn descriptors_in_flight_of_another_process_hold_back_only_replies_with_descriptors() {
    for kind in KINDS {
        let (mut world, _directory) = world(kind);
        let double = world.stub().double(1);
        world.finish(double).unwrap();
        inject::begin(None);
        let mut swap = world.stub().swap(null(), null()).unwrap();
        inject::begin(Some(Plan {
            call: "sendmsg",
            times: 0..usize::MAX,
            errno: Errno::TOOMANYREFS,
        }));
        for number in 0..20 {
            let double = world.stub().double(number);
            assert_eq!(world.finish(double), Some(2 * number), "{kind:?}");
        }
        assert_eq!(world.server.stats().backlog, 1);
        assert!(swap.try_wait().is_none());
        if kind == Kind::Seqpacket {
            // The server retries with backoff.
            let failed = inject::failed();
            let began = Instant::now();
            for _ in 0..20 {
                world.turn_within(Duration::from_millis(10));
            }
            let (tried, took) = (inject::failed() - failed, began.elapsed());
            let most = took.as_millis() / 8 + 8;
            assert!((tried as u128) < most, "{tried} of {most}");
        }
        inject::end();
        let mut ended = None;
        world.turn_until("the end of a call", |_| {
            ended = swap.try_wait();
            ended.is_some()
        });
        assert!(matches!(ended, Some(Ok(_))), "{ended:?}");
    }
}
