//! A server that sends arbitrary replies to a client with calls and streams in flight.
//!
//! The input is `d` for a datagram socket, anything else for a seqpacket one, then a line per step: a [`Header`] and
//! a datagram, in which `$` is the id of the last call and `#` that of the first; or `c` to start a call, `s` to
//! start a stream, `t` to receive, `x` to drop the first call. In the end another call works.

#![no_main]

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use jsoncomm::client::PendingCall;
use jsoncomm::message::{Json, UnusedFds};
use jsoncomm::socket::{Received, Socket};
use jsoncomm::stream::Items;
use jsoncomm::{Connection, Kind, Message};
use jsoncomm_fuzz::{Cargo, Header, assert_nothing_leaks};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Most steps of one input.
const STEPS: usize = 64;

/// Longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Message)]
enum Trouble {
    NoLuck { number: u32 },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no luck")
    }
}

#[derive(Debug, Message)]
struct Gift {
    number: u32,
    #[fd]
    file: Option<OwnedFd>,
}

/// A call or stream in flight.
enum Started {
    Call(PendingCall<Gift, Trouble>),
    Stream(Items<Gift, Trouble>),
}

impl Started {
    /// Receives what is there. Returns true if more is to come.
    fn look(&mut self) -> bool {
        match self {
            Self::Call(call) => call.try_wait().is_none(),
            Self::Stream(items) => {
                while items.try_next().is_some() {}
                !items.is_done()
            }
        }
    }
}

struct Stage {
    server: Socket,
    client: Connection,
    started: Vec<Started>,
    ids: Vec<String>,
}

impl Stage {
    fn new(kind: Kind) -> Self {
        let (mut server, client) = Socket::pair(kind).expect("a pair");
        server.set_surplus(UnusedFds::Close);
        let client = client.as_fd().try_clone_to_owned().expect("a descriptor");
        let client = Connection::from_fd(client).expect("a connection");
        Self {
            server,
            client: client.with_timeout(PATIENCE),
            started: Vec::new(),
            ids: Vec::new(),
        }
    }

    fn step(&mut self, cargo: &Cargo, line: &[u8]) {
        match line.split_first() {
            None => {}
            Some((b'c', _)) => {
                if let Ok(call) = self.client.start("fuzz.desk.keep", &Json([1])) {
                    self.started.push(Started::Call(call));
                }
                self.read();
            }
            Some((b's', _)) => {
                if let Ok(items) = self.client.stream("fuzz.desk.count", &Json([1])) {
                    self.started.push(Started::Stream(items));
                }
                self.read();
            }
            Some((b'x', _)) => {
                if !self.started.is_empty() {
                    self.started.remove(0);
                }
                self.read();
            }
            Some((0x60.., _)) => self.look(),
            Some((header, text)) => {
                let text = self.with_ids(text);
                if !text.is_empty() {
                    cargo.send(&self.server, Header(*header), &text);
                }
            }
        }
    }

    fn look(&mut self) {
        self.started.retain_mut(Started::look);
        self.read();
    }

    /// Reads the messages of the client, and remembers their ids.
    fn read(&mut self) {
        while let Ok(Received::Message(Json(call), _)) = self.server.try_receive::<Json<Value>>() {
            assert_eq!(call["jsonrpc"], "2.0");
            match call["method"].as_str() {
                Some("rpc.cancel") => assert!(call["params"]["id"].is_u64(), "{call}"),
                _ => self
                    .ids
                    .push(call["id"].as_u64().expect("a number").to_string()),
            }
        }
    }

    fn with_ids(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in text {
            match byte {
                b'$' => out.extend(self.ids.last().map_or("0", |id| id).bytes()),
                b'#' => out.extend(self.ids.first().map_or("0", |id| id).bytes()),
                byte => out.push(*byte),
            }
        }
        out
    }

    /// Checks that the connection is still usable.
    fn finish(&mut self, cargo: &Cargo) {
        self.look();
        // An unreadable message counts as the reply of the only call in flight, so it is received before there is one.
        while self.client.run_once().expect("the server is there") {}
        let mut call: PendingCall<Gift, Trouble> = self
            .client
            .start("fuzz.desk.keep", &Json([1]))
            .expect("nothing that a server says ends the connection");
        assert!(call.try_wait().is_none(), "no reply was sent");
        self.read();
        let reply = self.with_ids(br#"{"jsonrpc":"2.0","id":$,"result":{"number":7,"file":0}}"#);
        assert!(cargo.send(&self.server, Header(b'1'), &reply), "no room");
        let gift = call.wait().expect("the reply");
        assert_eq!((gift.number, gift.file.is_some()), (7, true));
        self.started.clear();
    }
}

thread_local! {
    static CARGO: Cargo = Cargo::new();
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, steps)) = input.split_first() else {
        return;
    };
    let mut stage = Stage::new(match kind {
        b'd' => Kind::Datagram,
        _ => Kind::Seqpacket,
    });
    CARGO.with(|cargo| {
        for line in steps.split(|byte| *byte == b'\n').take(STEPS) {
            stage.step(cargo, line);
        }
        stage.finish(cargo);
    });
    drop(stage);
    assert_nothing_leaks();
});
