//! Handlers that take `&mut Call`, tested without a socket.

use super::*;
use jsoncomm::server::TestCall;
use jsoncomm::stream::StreamSender;
use jsoncomm::{Deferred, Reply, Stream};
use std::time::{Duration, Instant};

#[jsoncomm::service(name = "example.rehearsed")]
trait Rehearsed {
    fn whose(&mut self, call: &mut Call) -> String;
    fn opened(&mut self, call: &mut Call) -> Deferred<Opened, FilesError>;
    fn lines(&mut self, call: &mut Call) -> Stream<String>;
}

#[derive(Default)]
struct Daemon {
    replies: Vec<Reply<Opened, FilesError>>,
    sinks: Vec<StreamSender<String>>,
}

impl Rehearsed for Daemon {
    fn whose(&mut self, call: &mut Call) -> String {
        let uid = call.peer().map(jsoncomm::Peer::uid);
        format!(
            "{}.{} {uid:?} {}",
            call.service(),
            call.method(),
            call.deadline().is_some()
        )
    }

    fn opened(&mut self, call: &mut Call) -> Deferred<Opened, FilesError> {
        call.defer(|reply| self.replies.push(reply))
    }

    fn lines(&mut self, call: &mut Call) -> Stream<String> {
        call.stream(|sink| self.sinks.push(sink))
    }
}

#[test]
fn a_handler_sees_the_call_that_its_test_describes() {
    let mut daemon = Daemon::default();
    let mut nothing = TestCall::new();
    assert_eq!(daemon.whose(nothing.call()), ". None false");
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut call = TestCall::new()
        .of("a", "b")
        .from_user(1000, 100)
        .until(deadline);
    assert_eq!(daemon.whose(call.call()), "a.b Some(1000) true");
    assert!(call.reply::<String, String>().is_none());
}

#[test]
fn a_deferred_reply_can_be_tested_without_a_socket() {
    let mut daemon = Daemon::default();
    let mut call = TestCall::new();
    let _ = daemon.opened(call.call());
    assert!(call.reply::<Opened, FilesError>().is_none());
    let file = File::open("/dev/null").unwrap().into();
    daemon.replies.remove(0).send(Opened { len: 7, file });
    let opened = call.reply::<Opened, FilesError>().unwrap().unwrap();
    assert_eq!(opened.len, 7);
    assert!(File::from(opened.file).metadata().is_ok());
    assert!(call.reply::<Opened, FilesError>().is_none());

    let mut refused = TestCall::new();
    let _ = daemon.opened(refused.call());
    daemon
        .replies
        .remove(0)
        .fail(FilesError::Denied { path: "a".into() });
    let error = refused.reply::<Opened, FilesError>().unwrap().unwrap_err();
    assert!(matches!(error, CallError::Service(FilesError::Denied { path }) if path == "a"));

    let mut dropped = TestCall::new();
    let _ = daemon.opened(dropped.call());
    daemon.replies.clear();
    let error = dropped.reply::<Opened, FilesError>().unwrap().unwrap_err();
    assert!(matches!(error, CallError::Fault(fault) if fault.code == Fault::NO_REPLY));

    let mut cancelled = TestCall::new();
    let _ = daemon.opened(cancelled.call());
    assert!(daemon.replies[0].is_wanted() && cancelled.cancel());
    assert!(!daemon.replies[0].is_wanted() && !cancelled.cancel());
}

#[test]
fn a_stream_can_be_tested_without_a_socket() {
    let mut daemon = Daemon::default();
    let mut call = TestCall::new();
    let _ = daemon.lines(call.call());
    let sink = daemon.sinks.remove(0);
    for line in ["a", "b"] {
        assert!(sink.send(&line.to_owned()).is_ok());
    }
    let mut items = Vec::new();
    while let Some(item) = call.reply::<String, String>() {
        items.push(item.unwrap());
    }
    assert_eq!(items, ["a", "b"]);
}
