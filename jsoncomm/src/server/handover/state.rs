//! What travels beside the sockets: rows, each a JSON array, and the order of the descriptors.
//!
//! Descriptors have no index. Each row says how many it has, and they come in the order of the rows: of an endpoint its socket,
//! those that hold its address, those of its replies, then all of the connections that it has accepted.

use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::envelope;
use crate::error::{DecodeError, EncodeError, Error, HandoverProblem};
use crate::json::{Reader, Writer};
use crate::limits::Depth;
use crate::peer::Peer;
use crate::socket::{Listening, kind_of};
use crate::sys::control::Credentials;
use crate::transport::Kind;

/// Defines structs that are read and written as arrays of their fields.
macro_rules! rows {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$about:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub(super) struct $name { $($(#[$about])* pub(super) $field: $type,)* }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                ($(&self.$field,)*).serialize(to)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let ($($field,)*) = Deserialize::deserialize(from)?;
                Ok(Self { $($field,)* })
            }
        }
    )*};
}

rows! {
    /// All sockets of a server.
    struct State {
        endpoints: Vec<EndpointRow>,
        sessions: Vec<SessionsRow>,
    }

    /// A listening socket, a datagram socket, or a connection that no listening socket here has accepted.
    struct EndpointRow {
        name: String,
        /// Other processes may serve at the socket as well.
        shared: bool,
        /// The kernel refuses descriptors.
        refuses_fds: bool,
        /// The file to be removed. It has one descriptor, of its directory.
        file: Option<FileRow>,
        /// The number of descriptors that hold an abstract name.
        holders: usize,
        /// The socket as a connection, or as a datagram socket with one peer.
        connection: ConnectionRow,
        /// What waits for the peers of a datagram socket.
        backlogs: Vec<BacklogRow>,
        /// What is left of a batch that has come to a datagram socket.
        unfinished: Option<UnfinishedRow>,
        accepted: Vec<ConnectionRow>,
    }

    /// The sessions of one service.
    struct SessionsRow {
        service: String,
        /// The kernel refuses descriptors.
        refuses_fds: bool,
        open: Vec<ConnectionRow>,
    }

    struct FileRow {
        name: Vec<u8>,
        device: u64,
        inode: u64,
    }

    struct ConnectionRow {
        /// The kernel reports who the peer is. Otherwise only `sender` does.
        asks_kernel: bool,
        /// Who the peer is, as the program says.
        sender: Option<SenderRow>,
        replies: Vec<ReplyRow>,
        /// The descriptors, and the bytes in memfds, of each message that has been sent and may be unread.
        in_flight: Vec<(usize, usize)>,
        /// What is left of a batch.
        batch: Option<BatchRow>,
        /// The tag of a session, or of an adopted connection.
        tag: Option<u64>,
    }

    struct SenderRow {
        pid: i32,
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    }

    struct BacklogRow {
        /// The peer's address, as in `sun_path`. `None` if the socket is connected.
        to: Option<Vec<u8>>,
        /// The user whose account is charged.
        user: Option<u32>,
        replies: Vec<ReplyRow>,
    }

    struct BatchRow {
        /// The array of the elements that are left.
        text: Vec<u8>,
        /// Code and text of the fault that they get instead of being dispatched.
        refusal: Option<(i64, String)>,
    }

    struct UnfinishedRow {
        /// The address to reply to, as in `sun_path`.
        to: Option<Vec<u8>>,
        sender: Option<SenderRow>,
        /// The user whose account is charged.
        user: Option<u32>,
        batch: BatchRow,
    }

    /// A reply that has found no room.
    struct ReplyRow {
        text: String,
        fds: usize,
    }
}

impl From<&Peer> for SenderRow {
    fn from(peer: &Peer) -> Self {
        let Credentials { pid, uid, gid } = peer.credentials();
        let groups = peer.groups().map(<[u32]>::to_vec);
        Self {
            pid,
            uid,
            gid,
            groups,
        }
    }
}

impl SenderRow {
    /// The peer. `None` if its user has no name here.
    pub(super) fn into_peer(self) -> Option<Peer> {
        let Self { pid, uid, gid, .. } = self;
        let peer = Peer::from_credentials(Credentials { pid, uid, gid })?;
        Some(peer.with_groups(self.groups.map(Vec::into_boxed_slice)))
    }
}

impl State {
    /// Writes it as JSON.
    pub(super) fn write(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let written = self.serialize(&mut Writer::new(&mut text, Depth::MAX));
        written.map_err(|error| Error::Encode(EncodeError::from(error)))?;
        Ok(text)
    }

    /// Reads what [`write`](Self::write) has written.
    pub(super) fn read(text: &[u8]) -> Result<Self, HandoverProblem> {
        let text = std::str::from_utf8(text).map_err(damaged)?;
        let mut reader = Reader::new(text, Depth::MAX);
        let read = Self::deserialize(&mut reader);
        let read = reader.finish(read);
        let (state, length) = read.map_err(|error| damaged(DecodeError::from(error)))?;
        if length < text.len() {
            return Err(damaged("text after its end"));
        }
        Ok(state)
    }

    /// The number of descriptors. `None` if that overflows.
    pub(super) fn descriptors(&self) -> Option<usize> {
        let endpoints = sum(self.endpoints.iter().map(EndpointRow::descriptors))?;
        let sessions = self.sessions.iter().flat_map(|sessions| &sessions.open);
        endpoints.checked_add(sum(sessions.map(ConnectionRow::descriptors))?)
    }
}

impl State {
    /// Checks that each socket is of the kind that its row says, and that batches are arrays.
    pub(super) fn check(&self, fds: &[OwnedFd]) -> Result<(), HandoverProblem> {
        let mut fds = fds.iter();
        for endpoint in &self.endpoints {
            endpoint.check(&mut fds)?;
            endpoint
                .accepted
                .iter()
                .try_for_each(|row| row.check(&mut fds))?;
        }
        let sessions = self.sessions.iter().flat_map(|sessions| &sessions.open);
        for session in sessions {
            session.check(&mut fds)?;
        }
        Ok(())
    }
}

/// The descriptors of a handover, in order.
type Descriptors<'f> = std::slice::Iter<'f, OwnedFd>;

impl EndpointRow {
    /// Checks the endpoint, and skips its descriptors.
    fn check(&self, fds: &mut Descriptors<'_>) -> Result<(), HandoverProblem> {
        let socket = fds.next().map(AsFd::as_fd);
        let kind = socket.and_then(|socket| kind_of(socket, Listening::No).ok());
        let listens = socket.is_some_and(|socket| kind_of(socket, Listening::Yes).is_ok());
        let accepts = listens || self.accepted.is_empty();
        let has_peers = kind == Some(Kind::Datagram) || self.backlogs.is_empty();
        let fits = self.file.is_none() || self.holders == 0;
        if (kind.is_none() && !listens) || !accepts || !has_peers || !fits {
            return Err(damaged("an endpoint is not what its row says"));
        }
        let batch = self.unfinished.as_ref().map(|unfinished| &unfinished.batch);
        check_batch(self.connection.batch.as_ref().or(batch))?;
        let descriptors = self.descriptors_before_accepted().unwrap_or(0);
        skip(fds, descriptors.saturating_sub(1));
        Ok(())
    }
}

impl ConnectionRow {
    /// Checks the connection, and skips its descriptors.
    fn check(&self, fds: &mut Descriptors<'_>) -> Result<(), HandoverProblem> {
        let socket = fds.next().map(AsFd::as_fd);
        let kind = socket.and_then(|socket| kind_of(socket, Listening::No).ok());
        if kind != Some(Kind::Seqpacket) {
            return Err(damaged("a connection is none"));
        }
        skip(fds, fds_of(&self.replies).unwrap_or(0));
        check_batch(self.batch.as_ref())
    }
}

fn check_batch(batch: Option<&BatchRow>) -> Result<(), HandoverProblem> {
    match batch.map(|batch| envelope::split(&batch.text, usize::MAX)) {
        None | Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err(damaged("the rest of a batch is no array")),
    }
}

impl EndpointRow {
    fn descriptors(&self) -> Option<usize> {
        let accepted = sum(self.accepted.iter().map(ConnectionRow::descriptors))?;
        self.descriptors_before_accepted()?.checked_add(accepted)
    }

    /// The number of descriptors that hold the address.
    pub(super) fn address_descriptors(&self) -> Option<usize> {
        self.holders.checked_add(self.file.is_some().into())
    }

    /// Those of the socket itself, of its address and of its replies.
    fn descriptors_before_accepted(&self) -> Option<usize> {
        let backlogs = self.backlogs.iter();
        let backlogs = sum(backlogs.map(|backlog| fds_of(&backlog.replies)))?;
        let own = self.connection.descriptors()?;
        own.checked_add(self.address_descriptors()?)?
            .checked_add(backlogs)
    }
}

impl ConnectionRow {
    /// Those of its replies, and the socket.
    pub(super) fn descriptors(&self) -> Option<usize> {
        fds_of(&self.replies)?.checked_add(1)
    }
}

fn fds_of(replies: &[ReplyRow]) -> Option<usize> {
    sum(replies.iter().map(|reply| Some(reply.fds)))
}

/// Skips descriptors.
fn skip(fds: &mut Descriptors<'_>, count: usize) {
    fds.take(count).for_each(drop);
}

fn sum(mut counts: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    counts.try_fold(0_usize, |sum, count| sum.checked_add(count?))
}

pub(super) fn damaged(reason: impl ToString) -> HandoverProblem {
    HandoverProblem::Damaged {
        reason: reason.to_string(),
    }
}
