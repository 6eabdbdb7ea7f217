//! Peers that pass what is no connection, or that misuse a copy which they have kept.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use jsoncomm::message::{EncodeError, FdProblem};
use jsoncomm::socket::Listener as Listening;
use jsoncomm::{Error, Kind};
use jsoncomm_tests::send_raw;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::*;

/// Sends a call of `keep` with this descriptor, and returns the reply.
fn keep(to: &mut Socket, fd: BorrowedFd<'_>) -> serde_json::Value {
    let call =
        br#"{"jsonrpc":"2.0","id":1,"method":"test.hub.keep","params":{"peers":[0],"one":null}}"#;
    send_raw(to.as_fd(), call, &[fd]).unwrap();
    serde_json::from_slice(&to.receive_raw().unwrap().0.bytes).unwrap()
}

#[test]
fn only_a_connected_seqpacket_socket_is_taken() {
    alone!();
    let before = open_fds();
    {
        let hub = hub(|endpoint| endpoint.allow_foreign_endpoints());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("listener.sock");
        let listener = Listening::bind(&path).unwrap();
        let unix = |of| socket_with(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None).unwrap();
        let pair = |kind| {
            Socket::pair(kind)
                .unwrap()
                .0
                .as_fd()
                .try_clone_to_owned()
                .unwrap()
        };
        let stream = UnixStream::pair().unwrap().0;
        let other = UnixListener::bind(directory.path().join("stream.sock")).unwrap();
        let wrong: [(&str, OwnedFd); 9] = [
            ("a datagram pair", pair(Kind::Datagram)),
            ("a stream pair", stream.into()),
            ("a listening stream socket", other.into()),
            (
                "a listening seqpacket socket",
                listener.as_fd().try_clone_to_owned().unwrap(),
            ),
            (
                "an unconnected seqpacket socket",
                unix(SocketType::SEQPACKET),
            ),
            ("an unconnected datagram socket", unix(SocketType::DGRAM)),
            (
                "a TCP socket",
                std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            ),
            ("a pipe", rustix::pipe::pipe().unwrap().0),
            ("a file", File::open("/dev/null").unwrap().into()),
        ];
        let mut client = Socket::connect(&hub.path, Kind::Seqpacket).unwrap();
        client.set_timeout(Some(PATIENCE));
        for (what, fd) in &wrong {
            let reply = keep(&mut client, fd.as_fd());
            assert_eq!(
                reply["error"]["code"],
                Fault::INVALID_DESCRIPTORS,
                "{what}: {reply}"
            );
            assert_eq!(reply["error"]["data"]["field"], "peers[0]", "{what}");
            let message = reply["error"]["message"].as_str().unwrap();
            assert!(
                message.ends_with("is not a connected unix seqpacket socket"),
                "{what}"
            );
        }
        // One whose other end is closed is taken: it may close at any time.
        let (near, far) = ends();
        drop(near);
        assert_eq!(keep(&mut client, far.as_fd())["result"], 1);
        assert_eq!(keep(&mut client, ends().0.as_fd())["result"], 2);
        // Nobody has accepted it yet.
        let queued = Socket::connect(&path, Kind::Seqpacket).unwrap();
        assert_eq!(keep(&mut client, queued.as_fd())["result"], 3);
    }
    assert_open_fds(before);
}

#[test]
fn a_connection_that_is_in_use_or_over_datagrams_is_not_sent() {
    let hub = hub(|endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let keep = |connection: &Connection| client.keep(&vec![connection.clone()], &None);
    let problem = |connection: &Connection| match keep(connection) {
        Err(CallError::NotSent(Error::Encode(EncodeError::Descriptor { field, problem }))) => {
            assert_eq!(field.as_deref(), Some("peers[0]"));
            problem
        }
        other => panic!("{other:?}"),
    };
    let (_near, far) = Socket::pair(Kind::Datagram).unwrap();
    let far = far.as_fd().try_clone_to_owned().unwrap();
    let datagrams = Connection::from_fd(far).unwrap();
    assert!(matches!(
        problem(&datagrams),
        FdProblem::Kind { index: 0, .. }
    ));
    let (_near, far) = ends();
    let connection = Connection::from_fd(far).unwrap();
    let call = EventsClient::new(connection.clone())
        .start()
        .changed("a")
        .unwrap();
    assert_eq!(problem(&connection), FdProblem::InUse { index: 0 });
    drop(call);
    assert_eq!(keep(&connection).unwrap(), 1);
    let batching = connection.batching();
    EventsClient::new(batching.clone()).noted("b").unwrap();
    assert_eq!(problem(&connection), FdProblem::InUse { index: 0 });
    batching.flush().unwrap();
    assert_eq!(keep(&connection).unwrap(), 2);
}

#[test]
fn a_giver_that_reads_along_delays_a_call_to_its_deadline_and_no_longer() {
    let hub = hub(|endpoint| endpoint);
    let (near, far) = ends();
    let (kept, far) = (far.try_clone().unwrap(), far);
    let client = HubClient::new(hub.connect());
    client
        .keep(&vec![Connection::from_fd(far).unwrap()], &None)
        .unwrap();
    let named = client.last().unwrap().unwrap();
    let events = named
        .events
        .as_ref()
        .with_timeout(Duration::from_millis(50));
    // Nobody replies, and the giver changes how long a receive waits: without end, not at all, or a moment.
    for time in [
        None,
        Some(Duration::from_micros(1)),
        Some(Duration::from_secs(3600)),
    ] {
        set_socket_timeout(&kept, Timeout::Recv, time).unwrap();
        for nonblocking in [false, true] {
            rustix::io::ioctl_fionbio(&kept, nonblocking).unwrap();
            let late = EventsClient::new(events.clone()).changed("x");
            assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
        }
    }
    // It receives the reply that is for the other: the call ends at its deadline, and the next one is replied to.
    rustix::io::ioctl_fionbio(&kept, false).unwrap();
    let reply = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#);
    let mut near = Socket::from_fd(near).unwrap();
    near.set_timeout(Some(PATIENCE));
    let mut kept = Socket::from_fd(kept).unwrap();
    kept.set_timeout(Some(PATIENCE));
    while let Ok(jsoncomm::socket::Received::Message(..)) = near.try_receive_raw() {}
    let call = EventsClient::new(events.clone())
        .start()
        .changed("x")
        .unwrap();
    let id = |call: &[u8]| {
        let call: serde_json::Value = serde_json::from_slice(call).unwrap();
        call["id"].as_u64().unwrap()
    };
    let text = loop {
        let (message, _) = near.receive_raw().unwrap();
        if !String::from_utf8_lossy(&message.bytes).contains("rpc.cancel") {
            break message.bytes;
        }
    };
    send_raw(near.as_fd(), reply(id(&text)).as_bytes(), &[]).unwrap();
    assert!(kept.receive_raw().is_ok());
    assert!(matches!(call.wait(), Err(CallError::Deadline)));
    let call = EventsClient::new(events.with_timeout(PATIENCE))
        .start()
        .changed("y")
        .unwrap();
    let text = loop {
        let (message, _) = near.receive_raw().unwrap();
        if String::from_utf8_lossy(&message.bytes).contains("\"y\"") {
            break message.bytes;
        }
    };
    send_raw(near.as_fd(), reply(id(&text)).as_bytes(), &[]).unwrap();
    assert_eq!(call.wait().unwrap(), 1);
}

#[test]
fn a_giver_with_a_copy_can_speak_and_close_for_both() {
    let hub = hub(|endpoint| endpoint);
    let (served, events) = Served::start();
    let client = HubClient::new(hub.connect());
    client.keep(&Vec::new(), &Some(events.clone())).unwrap();
    // Both speak.
    assert_eq!(events.changed("own").unwrap(), 3);
    assert_eq!(client.note("theirs").unwrap(), 1);
    assert_eq!(
        (served.told(), served.told()),
        ("own".into(), "noted theirs".into())
    );
    // shutdown(2) ends it for all who have it.
    rustix::net::shutdown(events.as_ref(), rustix::net::Shutdown::Both).unwrap();
    assert_eq!(client.note("too late").unwrap(), 0);
    served.ends();
}

#[test]
fn received_connections_count_as_their_senders_until_they_are_dropped() {
    const MOST: usize = 4;
    let mut limits = Limits::default();
    limits.user_connections = MOST;
    let hub = hub_of(Kind::Seqpacket, limits, |endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let peers = |count: usize| -> Vec<_> {
        let one = || Connection::from_fd(ends().0).unwrap();
        std::iter::repeat_with(one).take(count).collect()
    };
    let refused = |count| match client.keep(&peers(count), &None) {
        Err(CallError::Fault(fault)) => {
            assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS);
            assert!(fault.message.contains("exceeds the connections"), "{fault}");
        }
        other => panic!("{other:?}"),
    };
    // The client itself has one. A call that is refused keeps nothing.
    refused(MOST);
    assert_eq!(client.keep(&peers(MOST - 2), &None).unwrap(), MOST - 2);
    assert_eq!(client.keep(&peers(1), &None).unwrap(), MOST - 1);
    refused(1);
    // Nor can the user connect any more.
    let rejected = HubClient::new(hub.connect()).clear();
    assert!(rejected.is_err(), "{rejected:?}");
    assert_eq!(client.clear().unwrap(), MOST - 1);
    assert_eq!(client.keep(&peers(MOST - 1), &None).unwrap(), MOST - 1);
}

#[test]
fn dropping_a_received_connection_does_not_wait_for_what_is_unread_in_it() {
    let hub = hub(|endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let (near, far) = ends();
    client
        .keep(&vec![Connection::from_fd(far).unwrap()], &None)
        .unwrap();
    let slow = jsoncomm_tests::lingering();
    send_raw(&near, b"{}", &[slow.fd.as_fd()]).unwrap();
    drop(slow.fd);
    assert_eq!(client.clear().unwrap(), 1);
    assert_eq!(client.clear().unwrap(), 0, "the loop goes on");
    drop(slow.end);
}

#[test]
fn a_handler_does_not_wait_for_subscribers_that_do_not_read() {
    /// More than so many times the 25 s that a call waits for room are longer than the client's patience.
    const SUBSCRIBERS: usize = 4;
    let hub = hub(|endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let (_near, far): (Vec<_>, Vec<_>) = std::iter::repeat_with(ends).take(SUBSCRIBERS).unzip();
    let far = far.into_iter().map(Connection::from_fd);
    let far: Vec<_> = far.map(Result::unwrap).collect();
    assert_eq!(client.keep(&far, &None).unwrap(), SUBSCRIBERS);
    let long = "x".repeat(10_000);
    let mut told = std::iter::from_fn(|| Some(client.note(&long).unwrap()));
    assert!(told.any(|told| told == 0));
    assert_eq!(client.note(&long).unwrap(), 0);
}

#[test]
fn calls_in_flight_through_a_received_connection_are_limited() {
    const MOST: usize = 64;
    let hub = hub(|endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let (_near, far) = ends();
    let copy = far.try_clone().unwrap();
    let keep = |fd| client.keep(&vec![Connection::from_fd(fd).unwrap()], &None);
    assert_eq!(keep(far).unwrap(), 1);
    assert_eq!(client.pile(MOST - 1).unwrap(), MOST - 1);
    assert_eq!(client.pile(2).unwrap(), 1);
    assert_eq!(client.pile(1).unwrap(), 0);
    // A call without a reply is not in flight.
    assert_eq!(client.note("another").unwrap(), 1);
    assert_eq!(client.clear().unwrap(), 1);
    assert_eq!(keep(copy).unwrap(), 1);
    assert_eq!(client.pile(MOST + 1).unwrap(), MOST);
}

#[test]
fn a_connection_can_be_passed_over_itself() {
    let hub = hub(|endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let own: &Connection = client.as_ref();
    let own = own.clone();
    assert_eq!(client.keep(&vec![own.clone(), own], &None).unwrap(), 2);
    // The server calls itself, by a one-way call of a service that it does not serve there.
    assert_eq!(client.note("x").unwrap(), 2);
    assert_eq!(client.clear().unwrap(), 2);
}

#[test]
fn a_giver_of_both_ends_of_a_pair_gets_no_reply_and_stops_nobody() {
    let hub = hub(|endpoint| endpoint);
    let client = HubClient::new(hub.connect());
    let (near, far) = ends();
    let (near, far) = (
        Connection::from_fd(near).unwrap(),
        Connection::from_fd(far).unwrap(),
    );
    assert_eq!(client.keep(&vec![near, far], &None).unwrap(), 2);
    for _ in 0..100 {
        assert_eq!(client.note("x").unwrap(), 2);
        client.pile(3).unwrap();
    }
    assert_eq!(client.clear().unwrap(), 2);
}
