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
    File::open(std::env::current_exe().unwrap()).unwrap()
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

row! { a_method_is_added,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> u8; fn n(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } fn n(&mut self) -> u8 { 2 } }
    |c| good(c.m()), |c| good(c.m()), |c| good(c.n()), Works, FailsIfUsed
}
row! { a_method_is_removed,
    old { fn m(&mut self) -> u8; fn n(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } fn n(&mut self) -> u8 { 2 } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()) && good(c.n()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_method_is_renamed,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn n(&mut self) -> u8; } { fn n(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |_| true, |c| good(c.n()), Breaks, FailsIfUsed
}
row! { a_method_is_renamed_and_keeps_its_old_name,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[serde(alias = "m")] fn n(&mut self) -> u8; } { fn n(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.n()), |_| true, Works, Breaks
}
row! { a_method_gets_another_name,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[serde(alias = "k")] fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_method_loses_an_older_name,
    old { #[serde(alias = "k")] fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.as_ref().call::<u8, Infallible>("test.thing.k", &nothing())), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_method_is_deprecated,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[deprecated] fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { an_optional_argument_is_added,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: u8, b: Option<u8>) -> u8; } { fn m(&mut self, a: u8, _: Option<u8>) -> u8 { a } }
    |c| good(c.m(1)), |c| good(c.m(1, None)), |c| good(c.m(1, Some(2))), Works, FailsIfUsed
}
row! { a_required_argument_is_added,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: u8, b: u8) -> u8; } { fn m(&mut self, a: u8, _: u8) -> u8 { a } }
    |c| good(c.m(1)), |c| good(c.m(1, 2)), |_| true, Breaks, Breaks
}
row! { an_argument_is_removed,
    old { fn m(&mut self, a: u8, b: u8) -> u8; } { fn m(&mut self, a: u8, _: u8) -> u8 { a } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(1, 2)), |c| good(c.m(1)), |_| true, Breaks, Breaks
}
row! { an_optional_argument_is_removed,
    old { fn m(&mut self, a: u8, b: Option<u8>) -> u8; } { fn m(&mut self, a: u8, _: Option<u8>) -> u8 { a } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(1, Some(2))), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { an_argument_is_renamed_and_keeps_its_old_name,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, #[serde(alias = "a")] b: u8) -> u8; } { fn m(&mut self, b: u8) -> u8 { b } }
    |c| good(c.m(1)), |c| good(c.m(1)), |_| true, Works, Breaks
}
row! { an_argument_becomes_optional,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: Option<u8>) -> u8; } { fn m(&mut self, a: Option<u8>) -> u8 { a.unwrap_or(1) } }
    |c| good(c.m(1)), |c| good(c.m(Some(1))), |c| good(c.m(None)), Works, FailsIfUsed
}
row! { an_argument_becomes_required,
    old { fn m(&mut self, a: Option<u8>) -> u8; } { fn m(&mut self, a: Option<u8>) -> u8 { a.unwrap_or(1) } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(None)), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { an_integer_argument_takes_more,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: u16) -> u8; } { fn m(&mut self, _: u16) -> u8 { 1 } }
    |c| good(c.m(1)), |c| good(c.m(1)), |c| good(c.m(300)), Works, FailsIfUsed
}
row! { an_integer_argument_takes_less,
    old { fn m(&mut self, a: u16) -> u8; } { fn m(&mut self, _: u16) -> u8 { 1 } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(300)), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { an_integer_argument_becomes_a_string,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: String) -> u8; } { fn m(&mut self, _: String) -> u8 { 1 } }
    |c| good(c.m(1)), |c| good(c.m("1")), |_| true, Breaks, Breaks
}
row! { an_integer_argument_becomes_a_float,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: f64) -> u8; } { fn m(&mut self, _: f64) -> u8 { 1 } }
    |c| good(c.m(1)), |c| good(c.m(1.0)), |_| true, Works, Breaks
}
row! { a_float_argument_becomes_an_integer,
    old { fn m(&mut self, a: f64) -> u8; } { fn m(&mut self, _: f64) -> u8 { 1 } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(1.0)), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { a_string_argument_becomes_an_enum,
    old { fn m(&mut self, a: String) -> u8; } { fn m(&mut self, _: String) -> u8 { 1 } }
    new { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    |c| good(c.m("other")), |c| good(c.m(Two::A)), |_| true, Breaks, Works
}
row! { an_enum_argument_becomes_a_string,
    old { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    new { fn m(&mut self, a: String) -> u8; } { fn m(&mut self, _: String) -> u8 { 1 } }
    |c| good(c.m(Two::B)), |c| good(c.m("A")), |c| good(c.m("other")), Works, FailsIfUsed
}
row! { an_argument_gets_a_variant,
    old { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    new { fn m(&mut self, a: Three) -> u8; } { fn m(&mut self, _: Three) -> u8 { 1 } }
    |c| good(c.m(Two::A)), |c| good(c.m(Three::B)), |c| good(c.m(Three::C)), Works, FailsIfUsed
}
row! { an_argument_loses_a_variant,
    old { fn m(&mut self, a: Three) -> u8; } { fn m(&mut self, _: Three) -> u8 { 1 } }
    new { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    |c| good(c.m(Three::C)), |c| good(c.m(Two::A)), |_| true, Breaks, Works
}
row! { a_variant_in_an_argument_gets_a_member,
    old { fn m(&mut self, a: Filled) -> u8; } { fn m(&mut self, _: Filled) -> u8 { 1 } }
    new { fn m(&mut self, a: FilledMore) -> u8; } { fn m(&mut self, _: FilledMore) -> u8 { 1 } }
    |c| good(c.m(Filled::B(1))) && good(c.m(Filled::A { size: 1 })),
    |c| good(c.m(FilledMore::A { size: 1, name: "x".into() })), |c| good(c.m(FilledMore::B(1))), Breaks, Works
}
row! { a_struct_in_an_argument_gets_a_required_member,
    old { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    new { fn m(&mut self, a: Pair) -> u8; } { fn m(&mut self, a: Pair) -> u8 { a.a + a.b } }
    |c| good(c.m(One::default())), |c| good(c.m(Pair::default())), |_| true, Breaks, Works
}
row! { a_struct_in_an_argument_gets_a_member_with_a_default,
    old { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    new { fn m(&mut self, a: Lenient) -> u8; } { fn m(&mut self, a: Lenient) -> u8 { a.a + a.b } }
    |c| good(c.m(One::default())), |c| good(c.m(Lenient::default())), |_| true, Works, Works
}
row! { a_struct_in_an_argument_loses_a_member,
    old { fn m(&mut self, a: Pair) -> u8; } { fn m(&mut self, a: Pair) -> u8 { a.a + a.b } }
    new { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    |c| good(c.m(Pair::default())), |c| good(c.m(One::default())), |_| true, Works, Breaks
}
row! { a_member_in_an_argument_is_renamed_and_keeps_its_old_name,
    old { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    new { fn m(&mut self, a: Named) -> u8; } { fn m(&mut self, a: Named) -> u8 { a.b } }
    |c| good(c.m(One::default())), |c| good(c.m(Named::default())), |_| true, Works, Breaks
}
row! { a_result_gets_a_variant,
    old { fn m(&mut self) -> Two; } { fn m(&mut self) -> Two { Two::A } }
    new { fn m(&mut self) -> Three; } { fn m(&mut self) -> Three { Three::C } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_result_that_takes_others_gets_a_variant,
    old { fn m(&mut self) -> Open; } { fn m(&mut self) -> Open { Open::A } }
    new { fn m(&mut self) -> Two; } { fn m(&mut self) -> Two { Two::B } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_result_loses_a_variant,
    old { fn m(&mut self) -> Three; } { fn m(&mut self) -> Three { Three::C } }
    new { fn m(&mut self) -> Two; } { fn m(&mut self) -> Two { Two::A } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_gets_a_member,
    old { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    new { fn m(&mut self) -> Pair; } { fn m(&mut self) -> Pair { Pair::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_gets_an_optional_member,
    old { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    new { fn m(&mut self) -> Maybe; } { fn m(&mut self) -> Maybe { Maybe::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_result_gets_a_descriptor,
    old { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    new { fn m(&mut self) -> WithFile; } { fn m(&mut self) -> WithFile { WithFile { a: 1, file: null() } } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_loses_a_member,
    old { fn m(&mut self) -> Pair; } { fn m(&mut self) -> Pair { Pair::default() } }
    new { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_result_loses_an_optional_member,
    old { fn m(&mut self) -> Maybe; } { fn m(&mut self) -> Maybe { Maybe::default() } }
    new { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { an_integer_in_a_result_has_more_values,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> u16; } { fn m(&mut self) -> u16 { 300 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { an_integer_in_a_result_has_fewer_values,
    old { fn m(&mut self) -> u16; } { fn m(&mut self) -> u16 { 300 } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_may_be_null,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> Option<u8>; } { fn m(&mut self) -> Option<u8> { None } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_result_is_never_null_any_more,
    old { fn m(&mut self) -> Option<u8>; } { fn m(&mut self) -> Option<u8> { None } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_list_in_a_result_gets_a_fixed_length,
    old { fn m(&mut self) -> Vec<u8>; } { fn m(&mut self) -> Vec<u8> { vec![1, 2, 3] } }
    new { fn m(&mut self) -> [u8; 2]; } { fn m(&mut self) -> [u8; 2] { [1, 2] } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_tuple_in_a_result_has_another_length,
    old { fn m(&mut self) -> (u8, u8); } { fn m(&mut self) -> (u8, u8) { (1, 2) } }
    new { fn m(&mut self) -> (u8, u8, u8); } { fn m(&mut self) -> (u8, u8, u8) { (1, 2, 3) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Breaks
}
row! { a_reply_becomes_a_stream,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self, call: &mut Call) -> Stream<u8>; } { fn m(&mut self, call: &mut Call) -> Stream<u8> { stream(call) } }
    |c| good(c.m()), |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)), |_| true, Breaks, Works
}
row! { a_stream_becomes_a_reply,
    old { fn m(&mut self, call: &mut Call) -> Stream<u8>; } { fn m(&mut self, call: &mut Call) -> Stream<u8> { stream(call) } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)), |c| good(c.m()), |_| true, Works, Breaks
}
row! { items_have_another_type,
    old { fn m(&mut self, call: &mut Call) -> Stream<u8>; } { fn m(&mut self, call: &mut Call) -> Stream<u8> { stream(call) } }
    new { fn m(&mut self, call: &mut Call) -> Stream<String>; }
        { fn m(&mut self, call: &mut Call) -> Stream<String> { one_of(call, "1".to_owned()) } }
    |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)),
    |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)), |_| true, Breaks, Breaks
}
row! { a_call_becomes_one_way,
    old { fn m(&mut self) -> Result<(), Infallible>; } { fn m(&mut self) -> Result<(), Infallible> { Ok(()) } }
    new { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_one_way_call_gets_a_reply,
    old { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    new { fn m(&mut self) -> Result<(), Infallible>; } { fn m(&mut self) -> Result<(), Infallible> { Ok(()) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_call_with_a_result_becomes_one_way,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_one_way_call_gets_a_result,
    old { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { an_error_is_added,
    old { fn m(&mut self) -> Result<u8, Fails>; } { fn m(&mut self) -> Result<u8, Fails> { Err(Fails::A) } }
    new { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::B) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { an_error_is_removed,
    old { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::B) } }
    new { fn m(&mut self) -> Result<u8, Fails>; } { fn m(&mut self) -> Result<u8, Fails> { Err(Fails::A) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { an_error_is_added_beside_one_for_others,
    old { fn m(&mut self) -> Result<u8, FailsOpen>; } { fn m(&mut self) -> Result<u8, FailsOpen> { Err(FailsOpen::A) } }
    new { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::B) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { an_error_gets_another_code,
    old { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::A) } }
    new { fn m(&mut self) -> Result<u8, FailsReordered>; }
        { fn m(&mut self) -> Result<u8, FailsReordered> { Err(FailsReordered::A) } }
    // Whoever tells errors by their codes.
    |c| code(c.as_ref()) == 1, |c| code(c.as_ref()) == 2, |_| true, Breaks, Breaks
}
row! { descriptors_of_more_kinds_are_taken,
    old { fn m(&mut self, #[fd] a: Regular) -> u8; } { fn m(&mut self, _: Regular) -> u8 { 1 } }
    new { fn m(&mut self, #[fd] a: Any) -> u8; } { fn m(&mut self, _: Any) -> u8 { 1 } }
    |c| good(c.m(&Regular { file: regular() })),
    |c| good(c.m(&Any { file: regular() })), |c| good(c.m(&Any { file: null() })), Works, FailsIfUsed
}
row! { descriptors_of_fewer_kinds_are_taken,
    old { fn m(&mut self, #[fd] a: Any) -> u8; } { fn m(&mut self, _: Any) -> u8 { 1 } }
    new { fn m(&mut self, #[fd] a: Regular) -> u8; } { fn m(&mut self, _: Regular) -> u8 { 1 } }
    |c| good(c.m(&Any { file: null() })), |c| good(c.m(&Regular { file: regular() })), |_| true, Breaks, Works
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

/// All rows.
fn rows() -> Vec<Row> {
    vec![
        a_method_is_added::row(),
        a_method_is_removed::row(),
        a_method_is_renamed::row(),
        a_method_is_renamed_and_keeps_its_old_name::row(),
        a_method_gets_another_name::row(),
        a_method_loses_an_older_name::row(),
        a_method_is_deprecated::row(),
        an_optional_argument_is_added::row(),
        a_required_argument_is_added::row(),
        an_argument_is_removed::row(),
        an_optional_argument_is_removed::row(),
        an_argument_is_renamed_and_keeps_its_old_name::row(),
        an_argument_becomes_optional::row(),
        an_argument_becomes_required::row(),
        an_integer_argument_takes_more::row(),
        an_integer_argument_takes_less::row(),
        an_integer_argument_becomes_a_string::row(),
        an_integer_argument_becomes_a_float::row(),
        a_float_argument_becomes_an_integer::row(),
        a_string_argument_becomes_an_enum::row(),
        an_enum_argument_becomes_a_string::row(),
        an_argument_gets_a_variant::row(),
        an_argument_loses_a_variant::row(),
        a_variant_in_an_argument_gets_a_member::row(),
        a_struct_in_an_argument_gets_a_required_member::row(),
        a_struct_in_an_argument_gets_a_member_with_a_default::row(),
        a_struct_in_an_argument_loses_a_member::row(),
        a_member_in_an_argument_is_renamed_and_keeps_its_old_name::row(),
        a_result_gets_a_variant::row(),
        a_result_that_takes_others_gets_a_variant::row(),
        a_result_loses_a_variant::row(),
        a_result_gets_a_member::row(),
        a_result_gets_an_optional_member::row(),
        a_result_gets_a_descriptor::row(),
        a_result_loses_a_member::row(),
        a_result_loses_an_optional_member::row(),
        an_integer_in_a_result_has_more_values::row(),
        an_integer_in_a_result_has_fewer_values::row(),
        a_result_may_be_null::row(),
        a_result_is_never_null_any_more::row(),
        a_list_in_a_result_gets_a_fixed_length::row(),
        a_tuple_in_a_result_has_another_length::row(),
        a_reply_becomes_a_stream::row(),
        a_stream_becomes_a_reply::row(),
        items_have_another_type::row(),
        a_call_becomes_one_way::row(),
        a_one_way_call_gets_a_reply::row(),
        a_call_with_a_result_becomes_one_way::row(),
        a_one_way_call_gets_a_result::row(),
        an_error_is_added::row(),
        an_error_is_removed::row(),
        an_error_is_added_beside_one_for_others::row(),
        an_error_gets_another_code::row(),
        descriptors_of_more_kinds_are_taken::row(),
        descriptors_of_fewer_kinds_are_taken::row(),
    ]
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
    for row in rows() {
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
    for row in rows() {
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
