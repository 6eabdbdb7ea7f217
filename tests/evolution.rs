//! Interfaces that change: what `openrpc::compare` says of each change is what happens between programs of both versions.

use std::convert::Infallible;
use std::fs::File;

use jsoncomm::describe::Describe;
use jsoncomm::message::{RawError, RawMessage, UnknownVariant};
use jsoncomm::openrpc::{Document, Verdict, compare};
use jsoncomm::{Call, CallError, Connection, Kind, Message, Stream};
use jsoncomm_tests::{PATIENCE, Running};

use Verdict::{Breaks, FailsIfUsed, Works};

/// A change, and the programs that show what it means.
struct Row {
    name: &'static str,
    documents: [String; 2],
    servers: [fn() -> Server; 2],
    /// What a client of the old version does.
    old_calls: fn(&Connection) -> bool,
    /// What a client of the new version does without what is new, and with it.
    new_calls: [fn(&Connection) -> bool; 2],
    clients: Verdict,
    servers_do: Verdict,
}

/// A running server of whatever state.
struct Server {
    path: std::path::PathBuf,
    _running: Box<dyn std::any::Any>,
}

/// Defines a row: traits and implementations of both versions, what clients call, and what is expected of it.
macro_rules! row {
    ($name:ident,
        old { $($old:tt)* } { $($old_does:tt)* }
        new { $($new:tt)* } { $($new_does:tt)* }
        $old_calls:expr, $new_calls:expr, $uses:expr,
        $clients:ident, $servers:ident
    ) => {
        #[allow(deprecated, unused_imports, reason = "of some rows only")]
        mod $name {
            use super::*;
            mod old {
                use super::*;
                #[jsoncomm::service(name = "test.thing")]
                pub(super) trait Thing { $($old)* }
                pub(super) struct Does;
                impl Thing for Does { $($old_does)* }
            }
            mod new {
                use super::*;
                #[jsoncomm::service(name = "test.thing")]
                pub(super) trait Thing { $($new)* }
                pub(super) struct Does;
                impl Thing for Does { $($new_does)* }
            }
            pub(super) fn row() -> Row {
                Row {
                    name: stringify!($name),
                    documents: [
                        <dyn old::Thing as Describe>::DESCRIPTION.open_rpc(),
                        <dyn new::Thing as Describe>::DESCRIPTION.open_rpc(),
                    ],
                    servers: [
                        || start(old::Does, |endpoint| endpoint.serve::<dyn old::Thing>()),
                        || start(new::Does, |endpoint| endpoint.serve::<dyn new::Thing>()),
                    ],
                    old_calls: |connection| {
                        let calls: fn(old::ThingClient) -> bool = $old_calls;
                        calls(old::ThingClient::new(connection.clone()))
                    },
                    new_calls: [
                        |connection| {
                            let calls: fn(new::ThingClient) -> bool = $new_calls;
                            calls(new::ThingClient::new(connection.clone()))
                        },
                        |connection| {
                            let calls: fn(new::ThingClient) -> bool = $uses;
                            calls(new::ThingClient::new(connection.clone()))
                        },
                    ],
                    clients: $clients,
                    servers_do: $servers,
                }
            }
        }
    };
}

mod rows;

fn start<S: Send + 'static>(
    state: S,
    serve: impl FnOnce(jsoncomm::Endpoint<'_, S>) -> jsoncomm::Endpoint<'_, S>,
) -> Server {
    let running = Running::start(Kind::Seqpacket, state, serve);
    Server {
        path: running.path.clone(),
        _running: Box::new(running),
    }
}

/// Returns true if a reply that the service meant has come and was read.
fn good<T, E>(reply: Result<T, CallError<E>>) -> bool {
    matches!(reply, Ok(_) | Err(CallError::Service(_)))
}

#[derive(Debug, Message)]
enum Two {
    A,
    B,
}

#[derive(Debug, Message)]
enum Three {
    A,
    B,
    C,
}

#[derive(Debug, Message)]
enum Open {
    A,
    #[message(other)]
    Other(UnknownVariant),
}

#[derive(Debug, Message)]
enum Filled {
    A { size: u8 },
    B(u8),
}

#[derive(Debug, Message)]
enum FilledMore {
    A { size: u8, name: String },
    B(u8),
}

macro_rules! structs {
    ($($name:ident { $($(#[$on:meta])* $field:ident: $ty:ty),* })*) => {$(
        #[derive(Debug, Default, Message)]
        struct $name { $($(#[$on])* $field: $ty),* }
    )*};
}

structs! {
    One { a: u8 }
    Pair { a: u8, b: u8 }
    Maybe { a: u8, b: Option<u8> }
    Lenient { a: u8, #[serde(default)] b: u8 }
    Named { #[serde(alias = "a")] b: u8 }
}

#[derive(Debug, Message)]
struct Any {
    #[fd]
    file: File,
}

#[derive(Debug, Message)]
struct Regular {
    #[fd(regular)]
    file: File,
}

#[derive(Debug, Message)]
struct WithFile {
    a: u8,
    #[fd]
    file: File,
}

#[derive(Debug, Message, thiserror::Error)]
#[error("it fails")]
enum Fails {
    A,
}

#[derive(Debug, Message, thiserror::Error)]
#[error("it fails")]
enum FailsMore {
    A,
    B,
}

#[derive(Debug, Message, thiserror::Error)]
#[error("it fails")]
enum FailsOpen {
    A,
    #[message(other)]
    Other(UnknownVariant),
}

#[derive(Debug, Message, thiserror::Error)]
#[error("it fails")]
enum FailsReordered {
    B,
    A,
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

fn regular() -> File {
    tempfile::tempfile().unwrap()
}

/// Returns the code of the error that a method without arguments replies with.
fn code(connection: &Connection) -> i64 {
    match connection.call::<u8, RawError>("test.thing.m", &nothing()) {
        Err(CallError::Service(error)) => error.code,
        _ => 0,
    }
}

/// No arguments.
fn nothing() -> RawMessage {
    RawMessage::new("{}")
}

fn stream(call: &mut Call) -> Stream<u8> {
    one_of(call, 1)
}

/// Returns a stream of one item.
fn one_of<T: jsoncomm::message::Pack + Send + 'static>(call: &mut Call, item: T) -> Stream<T> {
    call.stream(|sink| sink.feed([Ok(item)]))
}

fn connect(server: &Server) -> Connection {
    Connection::open(&server.path)
        .unwrap()
        .with_timeout(PATIENCE)
}

/// Returns the worst of what is said about each side.
fn judge(row: &Row) -> (Verdict, Verdict) {
    let [old, new] = row
        .documents
        .each_ref()
        .map(|text| Document::parse(text).unwrap());
    let changes = compare(&old, &new);
    assert!(!changes.is_empty(), "{}", row.name);
    for change in &changes {
        assert!(change.place.starts_with("test.thing."), "{change}");
    }
    let worst = |verdicts: &mut dyn Iterator<Item = Verdict>| verdicts.max().unwrap();
    (
        worst(&mut changes.iter().map(|change| change.clients)),
        worst(&mut changes.iter().map(|change| change.servers)),
    )
}

#[test]
fn what_is_said_of_a_change_happens_between_programs_of_both_versions() {
    for row in rows::all() {
        let expected = (row.clients, row.servers_do);
        assert_eq!(judge(&row), expected, "{}: what is said", row.name);
        let [old, new] = row.servers.map(|start| start());
        let clients = if (row.old_calls)(&connect(&new)) {
            Works
        } else {
            Breaks
        };
        let servers = match row.new_calls.map(|calls| calls(&connect(&old))) {
            [true, true] => Works,
            [true, false] => FailsIfUsed,
            [false, _] => Breaks,
        };
        assert_eq!((clients, servers), expected, "{}: what happens", row.name);
    }
}

#[test]
fn each_version_of_a_service_works_with_itself() {
    for row in rows::all() {
        let [old, new] = row
            .documents
            .each_ref()
            .map(|text| Document::parse(text).unwrap());
        assert_eq!((compare(&old, &old), compare(&new, &new)), (vec![], vec![]));
        let [old, new] = row.servers.map(|start| start());
        assert!((row.old_calls)(&connect(&old)), "{}", row.name);
        for calls in row.new_calls {
            assert!(calls(&connect(&new)), "{}", row.name);
        }
    }
}
