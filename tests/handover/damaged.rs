//! What is no handover, or a damaged one, is refused, and nothing of it leaks.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use jsoncomm::fds::Fds;
use jsoncomm::server::HandoverProblem;
use jsoncomm::socket::{Listener, RawDatagram, Received, Socket};
use jsoncomm_tests::{alone, assert_open_fds, open_fds, send_text, servers_are_gone};

use super::*;

/// Returns the messages in which a server with a socket of each kind and a connection travels.
fn messages() -> Vec<RawDatagram> {
    let place = Place::new();
    let (mut server, mut state) = (place.server(), State::default());
    let _client = place.connect(Kind::Seqpacket);
    run_dry(&mut server, &mut state);
    let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
    let mut socket = Socket::from_fd(handover.to_fd().unwrap()).unwrap();
    let mut messages = Vec::new();
    while let Ok(Received::Message(message, _)) = socket.try_receive_raw() {
        messages.push(message);
    }
    assert_eq!(messages.len(), 3);
    messages
}

/// Queues messages in a socket, as `to_fd` does.
fn queue(messages: &[RawDatagram]) -> OwnedFd {
    let (near, far) = jsoncomm_tests::pair(Kind::Seqpacket);
    for RawDatagram { bytes, fds, .. } in messages {
        let fds: Vec<_> = fds.iter().map(|(_, fd)| fd).collect();
        send_text(&far, bytes, &fds).unwrap();
    }
    near.as_fd().try_clone_to_owned().unwrap()
}

fn problem(fd: OwnedFd) -> Option<HandoverProblem> {
    match Handover::from_fd(fd) {
        Ok(_) => None,
        Err(Error::Handover(problem)) => Some(problem),
        Err(other) => panic!("{other:?}"),
    }
}

fn problem_of(change: impl FnOnce(&mut Vec<RawDatagram>)) -> Option<HandoverProblem> {
    let mut messages = messages();
    change(&mut messages);
    problem(queue(&messages))
}

fn is_damaged(problem: &Option<HandoverProblem>) -> bool {
    matches!(problem, Some(HandoverProblem::Damaged { .. }))
}

fn raw(text: &str) -> RawDatagram {
    let bytes = text.into();
    RawDatagram {
        bytes,
        ..RawDatagram::default()
    }
}

#[test]
fn what_is_no_handover_is_refused() {
    alone!();
    let fds = open_fds();
    assert_eq!(problem_of(|_| {}), None);
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind(directory.path().join("listening")).unwrap();
    let others: [OwnedFd; 4] = [
        File::open("/dev/null").unwrap().into(),
        UnixStream::pair().unwrap().0.into(),
        UnixDatagram::pair().unwrap().0.into(),
        listener.as_fd().try_clone_to_owned().unwrap(),
    ];
    for other in others {
        assert_eq!(problem(other), Some(HandoverProblem::Other));
    }
    drop(listener);
    for text in [
        "{}",
        "jsoncomm-handover ",
        "jsoncomm-handover one",
        "jsoncomm-handover -1",
    ] {
        let other = problem_of(|messages| messages[0] = raw(text));
        assert_eq!(other, Some(HandoverProblem::Other), "{text}");
    }
    let later = problem_of(|messages| messages[0] = raw("jsoncomm-handover 2"));
    let (found, known) = (2, 1);
    assert_eq!(later, Some(HandoverProblem::Format { found, known }));
    servers_are_gone();
    assert_open_fds(fds);
}

#[test]
fn a_handover_is_received_whole_and_once_or_not_at_all() {
    alone!();
    let fds = open_fds();
    for left in 0..3 {
        let problem = problem_of(|messages| messages.truncate(left));
        assert_eq!(problem, Some(HandoverProblem::Incomplete), "{left}");
    }
    let fewer = problem_of(|messages| drop(messages[2].fds.take(0)));
    assert_eq!(fewer, Some(HandoverProblem::Incomplete));
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let more = problem_of(|messages| drop(messages[2].fds.push(null())));
    assert!(is_damaged(&more), "{more:?}");
    let none = problem_of(|messages| messages.insert(2, raw("descriptors")));
    assert!(is_damaged(&none), "{none:?}");
    // A file, a pair and a connection in the place of each descriptor.
    let count = messages()[2].fds.len();
    let others = || [null(), UnixStream::pair().unwrap().0.into()];
    for (index, other) in (0..count).flat_map(|index| others().map(|other| (index, other))) {
        let mut messages = messages();
        let all = std::mem::take(&mut messages[2].fds);
        let mut changed: Vec<OwnedFd> = all.into_iter().collect();
        changed[index] = other;
        messages[2].fds = Fds::from(changed);
        let fd = queue(&messages);
        drop(messages);
        // Only the descriptors of directories are not looked at.
        if let Ok(handover) = Handover::from_fd(fd) {
            let mut server = Server::new(Limits::default()).unwrap();
            server.take_over(handover, serve).unwrap();
        }
    }
    // Received before.
    let fd = queue(&messages());
    let again = fd.try_clone().unwrap();
    assert_eq!(problem(fd), None);
    assert_eq!(problem(again), Some(HandoverProblem::Incomplete));
    servers_are_gone();
    assert_open_fds(fds);
}

#[test]
fn a_damaged_state_is_refused_or_harmless() {
    alone!();
    let fds = open_fds();
    for text in [
        "[",
        "{}",
        "[]",
        "[[]] ",
        "[[[]]]",
        "[[],[]]",
        "[[],[],[]]",
        "[null]",
        "\u{feff}[[]]",
    ] {
        let problem = problem_of(|messages| messages[1] = raw(text));
        assert!(is_damaged(&problem), "{text}: {problem:?}");
    }
    let whole = String::from_utf8(messages()[1].bytes.clone()).unwrap();
    let many = whole.replacen("false", &u64::MAX.to_string(), 1);
    let problem = problem_of(|messages| messages[1] = raw(&many));
    assert!(is_damaged(&problem));
    for index in 0..whole.len() {
        for letter in ["", "9", "["] {
            let mut text = whole.clone();
            text.replace_range(index..=index, letter);
            let mut messages = messages();
            messages[1] = raw(&text);
            let fd = queue(&messages);
            drop(messages);
            if let Ok(handover) = Handover::from_fd(fd) {
                let mut server = Server::new(Limits::default()).unwrap();
                server.take_over(handover, serve).unwrap();
                run_dry(&mut server, &mut State::default());
            }
        }
    }
    servers_are_gone();
    assert_open_fds(fds);
}
