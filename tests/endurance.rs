//! Memory and descriptors do not grow with the number of calls. Client and server are both in the measured process.

use std::fs::File;

use jsoncomm::client::PendingCall;
use jsoncomm::{Call, CallError, Connection, Deferred, Message, Reply};
use jsoncomm_tests::{KINDS, Running, alone, assert_open_fds, needs_proc, open_fds, resident};

#[jsoncomm::service(name = "test.mill")]
trait Mill {
    fn grind(&mut self, grain: &str) -> Result<String, Stuck>;
    fn pass(&mut self, #[fd] sack: File) -> Sack;
    /// Gets its reply at the next call of this method.
    fn later(&mut self, call: &mut Call, number: u64) -> Deferred<u64>;
}

#[derive(Debug, Message)]
struct Sack {
    #[fd]
    sack: File,
}

#[derive(Debug, Message, thiserror::Error)]
#[error("a stone is in it")]
struct Stuck {
    grain: String,
}

#[derive(Default)]
struct Miller {
    kept: Option<Reply<u64>>,
}

impl Mill for Miller {
    fn grind(&mut self, grain: &str) -> Result<String, Stuck> {
        let grain = grain.to_owned();
        if grain.contains("stone") {
            Err(Stuck { grain })
        } else {
            Ok(grain)
        }
    }

    fn pass(&mut self, sack: File) -> Sack {
        Sack { sack }
    }

    fn later(&mut self, call: &mut Call, number: u64) -> Deferred<u64> {
        call.defer(|reply| {
            if let Some(kept) = self.kept.replace(reply) {
                kept.send(number);
            }
        })
    }
}

/// Makes this many rounds of 16 concurrent calls.
fn rounds(connection: &Connection, count: u64) {
    let mill = MillClient::new(connection.clone()).start();
    let null = File::open("/dev/null").unwrap();
    for round in 0..count {
        let grain = |kind: u64| match kind {
            0 => String::from("a stone"),
            _ => format!("grain {}", round % 7),
        };
        let ground: Vec<_> = (0..12)
            .map(|kind| mill.grind(&grain(kind)).unwrap())
            .collect();
        let sack = mill.pass(&null).unwrap();
        let unknown: PendingCall<()> = connection.start("test.mill.none", &(round,)).unwrap();
        let later = [mill.later(round).unwrap(), mill.later(round + 1).unwrap()];
        let replies = PendingCall::wait_all(ground);
        let stuck = replies.iter().filter(|reply| reply.is_err()).count();
        assert_eq!(stuck, 1);
        drop(sack.wait().unwrap());
        assert!(matches!(unknown.wait(), Err(CallError::Fault(_))));
        let [first, second] = later;
        assert_eq!(first.wait().unwrap(), round + 1);
        // Cancelled: the first call of the next round sends its reply.
        drop(second);
    }
}

#[test]
fn memory_and_descriptors_do_not_grow_over_a_hundred_thousand_calls() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let server = Running::start(kind, Miller::default(), |endpoint| {
            endpoint.serve::<dyn Mill>()
        });
        let connection = server.connect();
        // One-time allocations have happened after this.
        rounds(&connection, 200);
        let (memory, fds) = (resident(), open_fds());
        rounds(&connection, 3_125);
        assert_open_fds(fds);
        // Less than 6 bytes per call.
        let grown = resident().saturating_sub(memory);
        assert!(grown < 256, "{grown} KiB more than {memory}, {kind:?}");
        drop(connection);
        server.assert_busy_with(0);
        server.stop();
    }
}
