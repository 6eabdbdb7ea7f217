//! The server that hands over: it ends what it has begun, reads nothing more, and gives its sockets away.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Handover;
use super::state::{
    BacklogRow, BatchRow, ConnectionRow, EndpointRow, FileRow, ReplyRow, SenderRow, SessionsRow,
    State, UnfinishedRow,
};
use crate::accounts::Accounts;
use crate::address::{Bound, SocketFile};
use crate::error::Error;
use crate::queue::SendQueue;
use crate::router::Routes;
use crate::server::batch::Batch;
use crate::server::connected::Connected;
use crate::server::control::instant_after;
use crate::server::datagrams::{Datagrams, UnfinishedBatch};
use crate::server::listener::ListenerSource;
use crate::server::sending::ReplySocket;
use crate::server::sessions::Sessions;
use crate::server::source::SourceAction;
use crate::server::{Server, Source};
use crate::socket::local_address;

impl<S> Server<S> {
    /// Gives all sockets away, to be [taken over](Server::take_over) by a server of the next process.
    ///
    /// Call it when [`run`](Server::run) has returned. First it waits until all deferred calls have their replies, and for
    /// `grace` at the latest. No call is dispatched meanwhile, so a long grace is a long time in which clients wait; timers,
    /// watches and driven connections go on with `state`.
    ///
    /// | | until then | in the end |
    /// |---|---|---|
    /// | messages that are unread | stay in their sockets | are handled by the next process |
    /// | deferred calls and streams | continue | get the fault [`Fault::SHUTTING_DOWN`](crate::Fault::SHUTTING_DOWN), on [bare](crate::Endpoint::bare) endpoints no reply |
    /// | calls that wait for their [verdict](crate::server::Verdict) | get that fault now; those whose verdict was given before are handled | |
    /// | what is left of a batch | waits | is handled by the next process |
    /// | replies without room | are sent if there is room | are handed over |
    /// | connections, [sessions](Server::sessions), listening and datagram sockets | nothing is read or accepted | are handed over |
    /// | connections that are being closed | | stay here, and are closed with this process |
    /// | timers, watches, driven connections | continue | are kept |
    ///
    /// Afterwards this server has no sockets. It can take them back, or get new ones, and run again. A
    /// [shutdown](Server::shut_down) that had begun is over; sockets that it has closed are not handed over.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] only. The server is unchanged.
    ///
    /// # Examples
    ///
    /// See [`Handover`].
    pub fn hand_over(&mut self, state: &mut S, grace: Duration) -> Result<Handover, Error> {
        self.check_process()?;
        self.context.pending.stop_parked();
        self.wait_for_deferred(state, instant_after(grace))?;
        self.cancel_deferred("the server has been replaced before the call ended");
        // Sessions that were opened and are not in the loop yet.
        self.apply_requests();
        self.context.note_losses();
        self.tell_ended(state)?;
        self.stop = false;
        self.stopping = None;
        self.context.stopping = false;
        Ok(self.give_up())
    }

    /// Runs the loop, without reading from any socket, until no call is deferred.
    fn wait_for_deferred(&mut self, state: &mut S, end: Instant) -> Result<(), Error> {
        let mut quiet = false;
        while self.context.pending.is_busy() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if !std::mem::replace(&mut quiet, true) {
                for key in self.reactor.keys() {
                    self.act_on(key, |source| source.next_unread());
                }
            }
            self.turns.clear();
            self.arm_driven();
            // If it fails, nothing more can be waited for.
            if self.reactor.wait(Some(left), &mut self.turns).is_err() {
                break;
            }
            self.context.pending.begin_turn();
            self.act_unread(state);
            self.check_process()?;
            self.context.pending.end_turn();
            if self.context.pending.take_signal() {
                self.settle_if_parking(state);
                self.check_process()?;
                self.apply_changes();
            }
        }
        Ok(())
    }

    /// Gives each source that is ready a turn in which it reads nothing.
    fn act_unread(&mut self, state: &mut S) {
        self.give_turns(state, |server, source, state, key, cause| match source {
            Source::Datagrams(endpoint) => endpoint.act_unread(server.turn(state, key, cause)),
            Source::Connection(connection) => connection.act_unread(server.turn(state, key, cause)),
            Source::Listener(_) => SourceAction::Ignore(None),
            other => server.act_without_peers(other, state, cause),
        });
    }

    /// Takes all sockets out of the loop.
    fn give_up(&mut self) -> Handover {
        let (mut parcels, mut connections) = (Vec::new(), Vec::new());
        let mut sessions = self.session_parcels();
        for key in self.reactor.keys() {
            let Some(source) = self.reactor.take(key) else {
                continue;
            };
            match &*source {
                Source::Listener(_) | Source::Connection(_) => {}
                Source::Datagrams(endpoint) if endpoint.can_receive() => {}
                _ => {
                    self.reactor.put(key, source);
                    continue;
                }
            }
            self.reactor.release(key, &source);
            match *source {
                Source::Listener(listener) => parcels.push(Parcel::of_listener(listener)),
                Source::Datagrams(endpoint) => {
                    parcels.extend(Parcel::of_datagrams(endpoint, &self.context.accounts));
                }
                Source::Connection(connection) => {
                    connection.account.forget(key.to_bits());
                    self.context.pending.requests.uncount_connection();
                    connections.push(connection);
                }
                _ => {}
            }
        }
        let listening = parcels
            .iter()
            .enumerate()
            .filter(|(_, parcel)| parcel.listens);
        let places: HashMap<_, _> = listening
            .map(|(place, parcel)| (Arc::as_ptr(&parcel.routes), place))
            .collect();
        for connection in connections {
            let routes = Arc::as_ptr(&connection.routes);
            if let Some(parcel) = sessions.get_mut(&routes) {
                parcel.add(connection);
                continue;
            }
            let place = places.get(&routes);
            match place.and_then(|place| parcels.get_mut(*place)) {
                Some(parcel) => parcel.add_accepted(connection),
                None => parcels.extend(Parcel::of_connection(connection)),
            }
        }
        let (mut state, mut fds) = (State::default(), Vec::new());
        for parcel in parcels {
            state.endpoints.push(parcel.row);
            fds.extend(parcel.fds);
        }
        for (_, parcel) in sessions {
            state.sessions.push(parcel.row);
            fds.extend(parcel.fds);
        }
        Handover { state, fds }
    }

    /// A parcel for the sessions of each service, by what they serve.
    fn session_parcels(&self) -> HashMap<*const Routes<S>, SessionParcel> {
        let sessions = self.reactor.sources().filter_map(|source| match &**source {
            Source::Sessions(sessions) => Some(sessions),
            _ => None,
        });
        let parcel = |sessions: &Sessions<S>| {
            let row = SessionsRow {
                service: sessions.service.to_owned(),
                refuses_fds: sessions.routes.descriptors == 0,
                open: Vec::new(),
            };
            let fds = Vec::new();
            (Arc::as_ptr(&sessions.routes), SessionParcel { row, fds })
        };
        sessions.map(parcel).collect()
    }
}

/// The sessions of one service on their way.
struct SessionParcel {
    row: SessionsRow,
    fds: Vec<OwnedFd>,
}

impl SessionParcel {
    fn add<S>(&mut self, connection: Connected<S>) {
        if let Some((row, fds)) = connection_row(connection) {
            self.row.open.push(row);
            self.fds.extend(fds);
        }
    }
}

/// An endpoint on its way: its row and its descriptors.
struct Parcel<S> {
    row: EndpointRow,
    fds: Vec<OwnedFd>,
    routes: Arc<Routes<S>>,
    listens: bool,
}

impl<S> Parcel<S> {
    fn new(routes: Arc<Routes<S>>, connection: ConnectionRow, fds: Vec<OwnedFd>) -> Self {
        let address = || {
            let socket = fds.first()?;
            local_address(socket.as_fd()).ok()?
        };
        let name = match &routes.name {
            Some(name) => name.to_string(),
            None => address().map_or_else(String::new, |address| address.to_string()),
        };
        let row = EndpointRow {
            name,
            refuses_fds: routes.descriptors == 0,
            connection,
            ..EndpointRow::default()
        };
        Self {
            row,
            fds,
            routes,
            listens: false,
        }
    }

    fn of_listener(source: ListenerSource<S>) -> Self {
        let (path, socket) = source.listener.into_parts();
        let parcel = Self::new(source.routes, ConnectionRow::default(), vec![socket]);
        let mut parcel = parcel.with_address(path, source.shared);
        parcel.listens = true;
        parcel
    }

    fn of_datagrams(endpoint: Datagrams<S>, accounts: &Accounts) -> Option<Self> {
        let sender = endpoint.sender;
        let (socket, in_flight) = give_up_socket(sender.socket)?;
        let peer = endpoint.peer.as_ref();
        let connection = ConnectionRow {
            sender: peer.map(|peer| SenderRow::from(&**peer)),
            in_flight,
            ..ConnectionRow::default()
        };
        let parcel = Self::new(endpoint.routes, connection, vec![socket]);
        let mut parcel = parcel.with_address(endpoint.path.map(|path| *path), endpoint.shared);
        for (to, backlog) in sender.backlogs {
            let account = backlog.queue.front().and_then(|reply| reply.account());
            let user = account.and_then(|account| accounts.user_of(account));
            let replies = reply_rows(backlog.queue, &mut parcel.fds);
            let to = to.map(|name| name.sun_path().to_vec());
            parcel.row.backlogs.push(BacklogRow { to, user, replies });
        }
        parcel.row.unfinished = endpoint.batch.map(|batch| unfinished_row(&batch, accounts));
        Some(parcel)
    }

    /// A connection that was adopted, or whose listening socket is gone.
    fn of_connection(connection: Connected<S>) -> Option<Self> {
        let routes = Arc::clone(&connection.routes);
        let (row, fds) = connection_row(connection)?;
        Some(Self::new(routes, row, fds))
    }

    fn with_address(mut self, address: Option<Bound>, shared: bool) -> Self {
        let (file, fds) = address.map_or((None, Vec::new()), Bound::give_up);
        if file.is_none() {
            self.row.holders = fds.len();
        }
        self.row.file = file.map(|SocketFile { name, identity }| FileRow {
            name: name.into_vec(),
            device: identity.0,
            inode: identity.1,
        });
        self.row.shared = shared;
        self.fds.extend(fds);
        self
    }

    fn add_accepted(&mut self, connection: Connected<S>) {
        if let Some((row, fds)) = connection_row(connection) {
            self.row.accepted.push(row);
            self.fds.extend(fds);
        }
    }
}

/// Returns a connection's row, and its socket before the descriptors of its replies. `None` if the process has no descriptor
/// left for it.
fn connection_row<S>(connection: Connected<S>) -> Option<(ConnectionRow, Vec<OwnedFd>)> {
    let (socket, in_flight) = give_up_socket(connection.writer.socket)?;
    let mut fds = vec![socket];
    let session = connection.writer.session.as_ref();
    // Handles that the program has kept reach nothing any more.
    let tag = session.map(|session| {
        session.close();
        session.tag
    });
    let peer = connection.peer.as_ref();
    let asks_kernel = peer.is_some() && !connection.vouched_for;
    let sender = peer.filter(|_| !asks_kernel);
    let row = ConnectionRow {
        asks_kernel,
        sender: sender.map(SenderRow::from),
        replies: reply_rows(connection.writer.queue, &mut fds),
        in_flight,
        batch: connection.batch.map(|batch| batch_row(&batch)),
        tag,
    };
    Some((row, fds))
}

fn give_up_socket(socket: ReplySocket) -> Option<(OwnedFd, Vec<(usize, usize)>)> {
    let in_flight = socket.in_flight.messages();
    let fd = socket.transport.into_fd().ok()?;
    Some((fd, in_flight))
}

fn reply_rows(queue: SendQueue, fds: &mut Vec<OwnedFd>) -> Vec<ReplyRow> {
    let rows = queue.into_replies().map(|mut reply| {
        let text = std::mem::take(&mut reply.text);
        let own = std::mem::take(&mut reply.fds);
        let count = own.len();
        fds.extend(own);
        ReplyRow {
            // It is JSON.
            text: String::from_utf8_lossy(&text).into_owned(),
            fds: count,
        }
    });
    rows.collect()
}

fn batch_row(batch: &Batch) -> BatchRow {
    let (text, refusal) = batch.rest();
    BatchRow {
        text,
        refusal: refusal.map(|fault| (fault.code, fault.message.clone())),
    }
}

fn unfinished_row(unfinished: &UnfinishedBatch, accounts: &Accounts) -> UnfinishedRow {
    let peer = unfinished.peer.as_ref();
    UnfinishedRow {
        to: unfinished.to.map(|name| name.sun_path().to_vec()),
        sender: peer.map(SenderRow::from),
        user: accounts.user_of(&unfinished.account),
        batch: batch_row(&unfinished.batch),
    }
}
