//! Adaptive busy polling changes when messages are found, and nothing else.

use std::sync::mpsc::channel;
use std::time::Duration;

use jsoncomm::socket::{Listener, Socket};
use jsoncomm::{CallError, Connection, Kind, Limits, Server};
use jsoncomm_tests::{KINDS, PATIENCE};

/// The longest useful time.
const WHILE: Duration = Duration::from_micros(50);

#[jsoncomm::service(name = "test.echo")]
trait Echo {
    fn echo(&mut self, text: &str) -> String;
}

struct Wall;

impl Echo for Wall {
    fn echo(&mut self, text: &str) -> String {
        text.to_owned()
    }
}

#[test]
fn calls_get_replies_and_the_server_stops_while_either_end_polls() {
    for kind in KINDS {
        for (server_looks, client_looks) in [(true, true), (true, false), (false, true)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("busy.sock");
            let mut server = Server::new(Limits::default()).unwrap();
            server.bind(&path, kind).unwrap().serve::<dyn Echo>();
            if server_looks {
                server.set_busy_poll(WHILE);
            }
            let handle = server.handle();
            let served =
                std::thread::spawn(move || server.run(&mut Wall).map(|()| server.counts()));
            let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
            if client_looks {
                connection.set_busy_poll(WHILE);
            }
            let echo = EchoClient::new(connection);
            for number in 0..1000 {
                let text = number.to_string();
                assert_eq!(echo.echo(&text).unwrap(), text);
            }
            handle.stop();
            assert_eq!(served.join().unwrap().unwrap().handled, 1000);
        }
    }
}

#[test]
fn a_polling_client_notices_its_deadline_and_a_hang_up() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("silent.sock");
        let (listener, socket) = match kind {
            Kind::Seqpacket => (Some(Listener::bind(&path).unwrap()), None),
            Kind::Datagram => (None, Some(Socket::bind(&path).unwrap())),
        };
        let connection = Connection::open(&path).unwrap();
        // Longer than the longest busy poll.
        connection.set_busy_poll(PATIENCE);
        for moment in [Duration::ZERO, WHILE, Duration::from_millis(20)] {
            let hasty = EchoClient::new(connection.with_timeout(moment));
            assert!(matches!(hasty.echo("a"), Err(CallError::Deadline)));
        }
        let (sender, receiver) = channel();
        let waiting = std::thread::spawn(move || {
            sender.send(()).unwrap();
            EchoClient::new(connection.with_timeout(PATIENCE)).echo("a")
        });
        receiver.recv_timeout(PATIENCE).unwrap();
        drop((listener, socket));
        assert!(matches!(waiting.join().unwrap(), Err(CallError::Closed)));
    }
}
