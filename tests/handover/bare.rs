//! Bare endpoints, whose calls have no ids by which a client could send them again.

use jsoncomm::Handler;
use jsoncomm::socket::Socket;
use jsoncomm_tests::{KINDS, alone, assert_open_fds, open_fds, servers_are_gone};

use super::*;

#[derive(Debug, Message)]
#[message(reply = u64)]
enum Bare {
    /// Counts, and returns how many there were.
    Count(u32),
    /// Gets its reply later.
    Later,
}

impl Handler<Bare> for State {
    fn handle(&mut self, _: &mut Call, ask: Bare, reply: Reply<u64>) {
        match ask {
            Bare::Count(client) => reply.send(self.add(client)),
            Bare::Later => self.waiting.push((reply, 0)),
        };
    }
}

fn serve_bare(_: &str, endpoint: Endpoint<'_, State>) -> Result<(), Error> {
    endpoint.bare::<Bare>();
    Ok(())
}

#[test]
fn messages_without_envelopes_are_handled_once_and_in_order() {
    alone!();
    for kind in KINDS {
        let fds = open_fds();
        let place = Place::new();
        let (mut server, mut state) = (Server::new(Limits::default()).unwrap(), State::default());
        serve_bare("", server.bind(place.path(kind), kind).unwrap()).unwrap();
        let mut client = Socket::connect(place.path(kind), kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        for round in 0..5 {
            client.send(&Bare::Count(1)).unwrap();
            run_dry(&mut server, &mut state);
            // It has no id, so nothing can tell the client how it ended.
            client.send(&Bare::Later).unwrap();
            while state.waiting.is_empty() {
                let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
            }
            let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
            client.send(&Bare::Count(1)).unwrap();
            let (late, _) = state.waiting.pop().unwrap();
            assert!(!late.is_wanted());
            let fd = handover.to_fd().unwrap();
            drop((handover, server));
            late.send(7);
            server = Server::new(Limits::default()).unwrap();
            let handover = Handover::from_fd(fd).unwrap();
            server.take_over(handover, serve_bare).unwrap();
            run_dry(&mut server, &mut state);
            for more in 1..=2 {
                assert_eq!(client.receive::<u64>().unwrap().0, 2 * round + more);
            }
        }
        drop((server, client));
        servers_are_gone();
        assert_open_fds(fds);
    }
}
