//! Finding a server: the kind of its socket, why there is none, and the fault for a client that is not authorized.

use jsoncomm::address::AddressProblem;
use jsoncomm::{CallError, Connection, Error, Fault, Kind};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds};

use super::{Counter, CounterClient, State, serve};

#[test]
fn open_detects_the_kind() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = serve(kind);
        let counter = CounterClient::new(
            Connection::open(&server.path)
                .unwrap()
                .with_timeout(PATIENCE),
        );
        assert_eq!(counter.echo(7, "").unwrap(), "7");
        for other in KINDS {
            let connection = Connection::connect(&server.path, other);
            if other == kind {
                assert_eq!(
                    CounterClient::new(connection.unwrap().with_timeout(PATIENCE))
                        .echo(8, "")
                        .unwrap(),
                    "8"
                )
            } else {
                assert_eq!(
                    problem(connection.unwrap_err()),
                    Some(AddressProblem::OtherKind)
                )
            }
        }
        server.stop();
    }
    assert_open_fds(before);
}

fn problem(error: Error) -> Option<AddressProblem> {
    match error {
        Error::Address { problem, .. } => Some(problem),
        _ => None,
    }
}

#[test]
fn an_address_without_a_listener_is_an_error_with_the_reason() {
    alone!();
    let before = open_fds();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    assert_eq!(
        problem(Connection::open(&path).unwrap_err()),
        Some(AddressProblem::Missing)
    );
    drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
    assert_eq!(
        problem(Connection::open(&path).unwrap_err()),
        Some(AddressProblem::NobodyListens)
    );
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "plain").unwrap();
    for (path, found) in [(&*path, "a file"), (directory.path(), "a directory")] {
        assert_eq!(
            problem(Connection::open(path).unwrap_err()),
            Some(AddressProblem::NotASocket { found })
        );
    }
    let stream = std::os::unix::net::UnixListener::bind(directory.path().join("b.sock")).unwrap();
    let error = Connection::open(directory.path().join("b.sock")).unwrap_err();
    assert_eq!(problem(error), Some(AddressProblem::OtherKind));
    let (other, _) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(
        Connection::from_fd(other.into()),
        Err(Error::Address { .. })
    ));
    drop(stream);
    assert_open_fds(before);
}

#[test]
fn a_client_that_is_not_authorized_gets_a_fault() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = Running::start(kind, State::default(), |endpoint| {
            endpoint
                .serve::<dyn Counter>()
                .authorize(|peer| peer.uid() == u32::MAX)
        });
        for round in 0..20 {
            let counter = CounterClient::new(server.connect());
            let error = counter.echo(round, "").unwrap_err();
            assert!(
                matches!(
                    error,
                    CallError::Fault(Fault {
                        code: Fault::NOT_AUTHORIZED,
                        ..
                    })
                ),
                "{error:?}"
            );
            let again = counter.echo(round, "").unwrap_err();
            match kind {
                Kind::Datagram => assert!(matches!(
                    again,
                    CallError::Fault(Fault {
                        code: Fault::NOT_AUTHORIZED,
                        ..
                    })
                )),
                Kind::Seqpacket => assert!(matches!(again, CallError::Closed), "{again:?}"),
            }
        }
        let (_, counts) = server.stop();
        assert_eq!((counts.handled, counts.accepted), (0, 0));
        let refused = match kind {
            Kind::Datagram => (40, 0),
            Kind::Seqpacket => (20, 20),
        };
        assert_eq!((counts.refused, counts.rejected), refused);

        let me = rustix::process::geteuid().as_raw();
        let server = Running::start(kind, State::default(), move |endpoint| {
            endpoint
                .serve::<dyn Counter>()
                .authorize(move |peer| peer.uid() == me)
        });
        assert_eq!(
            CounterClient::new(server.connect()).echo(1, "").unwrap(),
            "1"
        );
        server.stop();
    }
    assert_open_fds(before);
}
