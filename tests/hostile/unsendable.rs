//! Replies that the kernel refuses to send.
//!
//! The kernel refuses to send descriptors of io_uring. Where there are none, `src/server/faults/sending` tests this.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use jsoncomm::{CallError, Deferred, Stream};
use jsoncomm_tests::skip;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::*;

/// Returns one descriptor.
#[jsoncomm::service(name = "test.odd")]
trait Odd {
    fn ping(&mut self, number: u64) -> u64;
    /// Takes a descriptor.
    fn take(&mut self, #[fd] file: OwnedFd) -> u64;
    fn at_once(&mut self) -> Handed;
    fn later(&mut self, call: &mut Call) -> Deferred<Handed>;
    /// Sends an item with a sendable descriptor, and then one without.
    fn items(&mut self, call: &mut Call) -> Stream<Handed>;
}

#[derive(Debug, Message)]
struct Handed {
    #[fd]
    file: OwnedFd,
}

struct Hand(OwnedFd);

impl Hand {
    fn odd(&self) -> Handed {
        let file = self.0.try_clone().unwrap();
        Handed { file }
    }
}

impl Odd for Hand {
    fn ping(&mut self, number: u64) -> u64 {
        number
    }

    fn take(&mut self, _file: OwnedFd) -> u64 {
        1
    }

    fn at_once(&mut self) -> Handed {
        self.odd()
    }

    fn later(&mut self, call: &mut Call) -> Deferred<Handed> {
        call.defer(|reply| reply.send(self.odd()))
    }

    fn items(&mut self, call: &mut Call) -> Stream<Handed> {
        let file = null().into();
        call.stream(|sink| sink.feed([Ok(Handed { file }), Ok(self.odd())]))
    }
}

/// Makes an io_uring descriptor, and waits.
const PYTHON: &str = "import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(425, 1, ctypes.create_string_buffer(256)), flush=True)
sys.stdin.read()";

/// Returns a descriptor of io_uring, if the kernel has it.
fn io_uring() -> Option<OwnedFd> {
    let mut command = Command::new("python3");
    let piped = command.args(["-c", PYTHON]).stdin(Stdio::piped());
    let mut child = piped.stdout(Stdio::piped()).spawn().unwrap();
    let mut number = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut number).unwrap();
    // Negative where a sandbox forbids it.
    let number: i32 = number.trim().parse().unwrap();
    let taken = || {
        (number >= 0).then_some(())?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok()?;
        pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
    };
    let taken = taken();
    drop(child.stdin.take());
    child.wait().unwrap();
    if taken.is_none() {
        skip("there are no descriptors of io_uring here");
    }
    taken
}

#[test]
fn a_reply_that_cannot_be_sent_is_a_fault_that_names_the_cause_and_the_connection_stays() {
    alone!();
    let Some(odd) = io_uring() else { return };
    let before = open_fds();
    for kind in KINDS {
        let hand = Hand(odd.try_clone().unwrap());
        let server = Running::start(kind, hand, |endpoint| endpoint.serve::<dyn Odd>());
        let client = OddClient::new(server.connect());
        let is_told = |ended: Result<Handed, CallError>| match ended {
            Err(CallError::Fault(fault)) => {
                assert_eq!(fault.code, Fault::INTERNAL_ERROR);
                let cause = std::io::Error::from(rustix::io::Errno::INVAL);
                let message = format!("the reply cannot be sent: sendmsg: {cause}");
                assert_eq!(fault.message, message);
                assert_eq!(client.ping(7).unwrap(), 7, "{kind:?}");
            }
            other => panic!("{other:?} {kind:?}"),
        };
        is_told(client.at_once());
        is_told(client.later());
        let mut items = client.items().unwrap();
        assert!(items.next().unwrap().is_ok());
        is_told(items.next().unwrap());
        assert!(items.next().is_none());
        drop((items, client));
        let (_, counts) = server.stop();
        assert_eq!((counts.undelivered, counts.disconnected), (3, 0));
    }
    assert_open_fds(before);
}

#[test]
fn a_request_that_cannot_be_sent_is_an_error_and_the_connection_stays() {
    alone!();
    let Some(odd) = io_uring() else { return };
    let is_refused = |error: jsoncomm::Error| match error {
        jsoncomm::Error::Os { operation, source } => {
            let refused = rustix::io::Errno::INVAL;
            assert_eq!(rustix::io::Errno::from_io_error(&source), Some(refused));
            assert_eq!(operation, "sendmsg");
        }
        other => panic!("{other:?}"),
    };
    for kind in KINDS {
        let hand = Hand(null().into());
        let server = Running::start(kind, hand, |endpoint| endpoint.serve::<dyn Odd>());
        let client = OddClient::new(server.connect());
        match client.take(&odd) {
            Err(CallError::NotSent(error)) => is_refused(error),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.ping(7).unwrap(), 7);
        assert_eq!(client.take(null()).unwrap(), 1);
        let (mut left, mut right) = jsoncomm_tests::pair(kind);
        let file = odd.try_clone().unwrap();
        is_refused(left.send(&Handed { file }).unwrap_err());
        left.send("next").unwrap();
        assert_eq!(right.receive::<String>().unwrap().0, "next");
    }
}
