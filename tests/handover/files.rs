//! Who removes the file of a socket.

use super::*;
use jsoncomm_tests::KINDS;

#[test]
fn the_file_of_a_socket_is_removed_by_the_last_server_only() {
    for kind in KINDS {
        let place = Place::new();
        let (mut server, mut state) = (place.server(), State::default());
        let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
        assert_eq!(server.stats().connections, 0);
        drop(server);
        let fd = handover.to_fd().unwrap();
        drop(handover);
        assert!(place.path(kind).exists());
        let mut server = Server::new(Limits::default()).unwrap();
        server
            .take_over(Handover::from_fd(fd).unwrap(), serve)
            .unwrap();
        assert!(place.path(kind).exists());
        drop(server);
        assert!(!place.path(kind).exists());
    }
}

#[test]
fn a_file_that_has_been_replaced_meanwhile_is_left() {
    let place = Place::new();
    let path = place.path(Kind::Seqpacket);
    let server = next(place.server(), &mut State::default(), Duration::ZERO);
    std::fs::remove_file(&path).unwrap();
    let other = jsoncomm_tests::Bound::at(&path, Kind::Seqpacket).unwrap();
    drop(server);
    other.reached_at(&path);
}

#[test]
fn a_handover_that_is_dropped_leaves_dead_sockets_which_the_next_bind_replaces() {
    for kind in KINDS {
        let place = Place::new();
        let mut server = place.server();
        drop(
            server
                .hand_over(&mut State::default(), Duration::ZERO)
                .unwrap(),
        );
        assert!(place.path(kind).exists());
        server.bind(place.path(kind), kind).unwrap();
    }
}

#[test]
fn a_server_can_take_its_sockets_back() {
    for kind in KINDS {
        let place = Place::new();
        let (mut server, mut state) = (place.server(), State::default());
        let desk = place.connect(kind);
        for count in 1..4 {
            let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
            // Nobody has come for it.
            drop(handover.to_fd().unwrap());
            server.take_over(handover, serve).unwrap();
            let call = desk.start().count(1).unwrap();
            run_dry(&mut server, &mut state);
            assert_eq!(call.wait().unwrap(), count);
        }
    }
}

#[test]
fn timers_stay_with_the_server_that_had_them() {
    let place = Place::new();
    let (mut server, mut state) = (place.server(), State::default());
    let hour = Duration::from_secs(3600);
    let timer = server.after(hour, |_: &mut State, _| {}).unwrap();
    let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
    assert!(server.remove(timer));
    server.take_over(handover, serve).unwrap();
}
