//! What handlers ask of the loop, which it does at the end of its turn: to adopt a session, to end one, to drive a connection.

use std::any::TypeId;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::accounts::{Account, Charge};
use crate::error::Error;
use crate::peer::{Peer, Rule, is_authorized};
use crate::sys::lock;
use crate::transport::Transport;

/// The part of a session that its handles share with its connection.
#[derive(Debug)]
pub(crate) struct SessionState {
    pub(crate) tag: u64,
    /// Calls are no longer handled.
    closed: AtomicBool,
    /// The reactor's key of the connection, as bits. Only the loop uses it.
    key: AtomicU64,
}

impl SessionState {
    pub(crate) fn new(tag: u64) -> Self {
        Self {
            tag,
            closed: AtomicBool::new(false),
            key: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Marks the session as closed. Returns true if it was not.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    pub(crate) fn set_key(&self, key: u64) {
        self.key.store(key, Ordering::Relaxed);
    }
}

/// The server's end of a session that has been opened.
pub(crate) struct Opening {
    pub(crate) transport: Transport,
    pub(crate) session: Arc<SessionState>,
    /// The reactor's key of what sessions of this kind serve, as bits.
    pub(crate) kind: u64,
    /// The caller that it was made for.
    pub(crate) peer: Option<Peer>,
    pub(crate) account: Arc<Account>,
    /// Counts the session as a connection of its user.
    pub(crate) charge: Charge,
}

/// What the loop needs of a connection to another server. A trait, so that the client is no part of a server that drives
/// none.
pub(crate) trait Drive: AsFd {
    fn run_once(&self) -> Result<bool, Error>;
    fn next_deadline(&self) -> Option<Instant>;

    /// Returns true if only the loop has the connection still, and no call is in flight.
    fn is_abandoned(&self) -> bool;
}

/// What the loop is asked to do.
pub(crate) enum Request {
    /// Serve a session that has been opened. What its peer has sent meanwhile waits in the socket.
    Adopt(Box<Opening>),
    /// Close a session.
    Close(Arc<SessionState>),
    /// Receive what comes on a connection to another server.
    Drive(Box<dyn Drive + Send>),
}

/// What sessions of one service serve, as far as it concerns their opening.
struct SessionKind {
    service: TypeId,
    key: u64,
    rule: Option<Rule>,
}

/// The reason why there is no session of a service for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSession {
    NotServed,
    NotAuthorized,
}

/// Requests on their way to the loop, and what they are checked against.
pub(crate) struct Requests {
    queue: Mutex<Vec<Request>>,
    kinds: Mutex<Vec<SessionKind>>,
    /// The connections of the server, and sessions on their way to the loop. Only the loop's thread changes it.
    connections: AtomicUsize,
    /// [`Limits::connections`](crate::Limits::connections).
    connections_max: AtomicUsize,
}

impl Requests {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            kinds: Mutex::default(),
            connections: AtomicUsize::new(0),
            connections_max: AtomicUsize::new(connections_max),
        }
    }

    pub(crate) fn push(&self, request: Request) {
        lock(&self.queue).push(request);
    }

    /// Takes all requests, in order.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *lock(&self.queue))
    }

    /// Registers what sessions of a service serve. The latest registration counts.
    pub(crate) fn register(&self, service: TypeId, key: u64) {
        lock(&self.kinds).push(SessionKind {
            service,
            key,
            rule: None,
        });
    }

    pub(crate) fn unregister(&self, key: u64) {
        lock(&self.kinds).retain(|kind| kind.key != key);
    }

    /// Sets the rule for opening sessions of a kind.
    pub(crate) fn set_rule(&self, key: u64, rule: &Rule) {
        let mut kinds = lock(&self.kinds);
        if let Some(kind) = kinds.iter_mut().find(|kind| kind.key == key) {
            kind.rule = Some(Arc::clone(rule));
        }
    }

    /// Returns the key of what sessions of a service serve, if the peer may have one.
    pub(crate) fn kind_for(&self, service: TypeId, peer: Option<&Peer>) -> Result<u64, NoSession> {
        let kinds = lock(&self.kinds);
        let kind = kinds.iter().rfind(|kind| kind.service == service);
        let (key, rule) = kind
            .map(|kind| (kind.key, kind.rule.clone()))
            .ok_or(NoSession::NotServed)?;
        // The rule is the program's, and may call back.
        drop(kinds);
        if is_authorized(rule.as_ref(), peer) {
            Ok(key)
        } else {
            Err(NoSession::NotAuthorized)
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns true if there may be one more connection.
    pub(crate) fn has_room(&self) -> bool {
        self.connections() < self.connections_max.load(Ordering::Relaxed)
    }

    pub(crate) fn set_connections_max(&self, most: usize) {
        self.connections_max.store(most, Ordering::Relaxed);
    }

    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn uncount_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
