//! Descriptors, and bytes in memfds, that were sent and may be unread.
//!
//! The kernel keeps them open, and counts descriptors in flight for the user that sent them: above `RLIMIT_NOFILE` no
//! process of that user can send a descriptor (`ETOOMANYREFS`, [unix(7)]). For root nothing is counted, and they can fill
//! the machine. So they are charged to the user they were sent to.
//!
//! No event tells when a peer reads, and asking costs a system call. So what was sent is taken for unread, and the kernel
//! is asked only when the budget would be exceeded.
//!
//! [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::{Account, Charge, Cost, Resource};
use crate::sys::control::{unread, unread_min};
use crate::sys::lock;

/// The order in which a socket's messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order in which they were sent: the socket has one peer.
    Sent,
    /// Any: it has several.
    Any,
}

/// What one socket has in flight. Takes no allocation until there is something.
pub(crate) struct InFlight {
    order: Order,
    sent: Option<Arc<Sent>>,
}

impl InFlight {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, sent: None }
    }

    /// Charges what the socket is about to send. `None` if it would exceed the account's budget. If nothing is in flight,
    /// anything fits.
    pub(crate) fn try_charge(&self, account: &Arc<Account>, cost: Cost) -> Option<Charge> {
        if let Some(charge) = account.try_charge_one(cost) {
            return Some(charge);
        }
        if let Some(sent) = &self.sent {
            sent.update();
        }
        let charge = account.try_charge_one(cost);
        charge.or_else(|| account.update_all().then(|| account.try_charge_one(cost))?)
    }

    /// Keeps the charge of a message that `socket` has sent.
    pub(crate) fn add(&mut self, socket: &Arc<OwnedFd>, charge: Charge) {
        let sent = self.sent.get_or_insert_with(|| {
            let sent = Arc::new(Sent {
                socket: Arc::downgrade(socket),
                charges: Mutex::default(),
            });
            charge.account.register(&sent);
            sent
        });
        let mut charges = lock(&sent.charges);
        let at = match self.order {
            Order::Sent => charges.len(),
            Order::Any => charges.partition_point(|other| in_memory(other) <= in_memory(&charge)),
        };
        charges.insert(at, charge);
    }

    /// Asks the kernel how many descriptors and bytes in memfds are unread at most.
    pub(crate) fn unread(&self) -> (usize, usize) {
        let Some(sent) = &self.sent else {
            return (0, 0);
        };
        sent.update();
        let charges = lock(&sent.charges);
        let sum = |resource| charges.iter().map(|charge| charge.cost.get(resource)).sum();
        (sum(Resource::FdsInFlight), sum(Resource::BytesInFlight))
    }

    /// Asks the kernel what is unread at most. Returns the descriptors and the bytes in memfds of each message.
    pub(crate) fn messages(&self) -> Vec<(usize, usize)> {
        let Some(sent) = &self.sent else {
            return Vec::new();
        };
        sent.update();
        let charges = lock(&sent.charges);
        let parts = |charge: &Charge| {
            let Charge { cost, .. } = charge;
            let fds = cost.get(Resource::FdsInFlight);
            (fds, cost.get(Resource::BytesInFlight))
        };
        charges.iter().map(parts).collect()
    }
}

/// The messages of one socket that may be unread.
pub(super) struct Sent {
    socket: Weak<OwnedFd>,
    /// One for each message with descriptors: oldest first, or cheapest first if any of them can be the next to be read, so
    /// that those are taken for read.
    charges: Mutex<VecDeque<Charge>>,
}

impl Sent {
    /// Asks the kernel how much is unread, and drops the charges of messages that have been read.
    fn update(&self) {
        let mut charges = lock(&self.charges);
        let socket = self.socket.upgrade().filter(|_| !charges.is_empty());
        // If that fails, everything may be unread.
        let Some(Ok(bytes)) = socket.map(|socket| unread(socket.as_fd())) else {
            return;
        };
        // At most so many. Not all of them have descriptors.
        let messages = bytes / unread_min();
        let read = charges.len().saturating_sub(messages);
        charges.drain(..read);
    }
}

/// What a message holds in memory and in descriptors while it is unread.
fn in_memory(charge: &Charge) -> (usize, usize) {
    let Charge { cost, .. } = charge;
    let bytes = cost.get(Resource::BytesInFlight);
    (bytes, cost.get(Resource::FdsInFlight))
}

/// The sockets from which something is in flight at a user's expense.
#[derive(Default)]
pub(super) struct Senders {
    sent: Vec<Weak<Sent>>,
    /// When the kernel was last asked about all of them.
    updated: Option<Instant>,
}

impl Account {
    /// Charges `cost` if each resource in it is within the limit or not charged at all: one message of any size fits.
    pub(crate) fn try_charge_one(self: &Arc<Self>, cost: Cost) -> Option<Charge> {
        let fits = self.fits(&cost, |used, cost, limit| {
            used == 0 || used.saturating_add(cost) <= limit
        });
        fits.then(|| self.charge(cost))
    }

    /// Adds a socket to those that are asked when the budget is used up.
    fn register(&self, sent: &Arc<Sent>) {
        let mut senders = lock(&self.senders);
        senders.sent.retain(|sent| sent.strong_count() > 0);
        senders.sent.push(Arc::downgrade(sent));
    }

    /// Asks the kernel about all that is in flight to this user's peers. Returns false if it was asked a moment ago: a
    /// user that exhausts its budget must not exhaust the server's time as well.
    fn update_all(&self) -> bool {
        /// One update asks about as many sockets as descriptors may be in flight, or as there are connections.
        const PAUSE: Duration = Duration::from_millis(1);
        let mut senders = lock(&self.senders);
        let now = Instant::now();
        if senders.updated.is_some_and(|updated| now < updated + PAUSE) {
            return false;
        }
        senders.updated = Some(now);
        for sent in senders.sent.iter().filter_map(Weak::upgrade) {
            sent.update();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;
    use crate::limits::Limits;
    use crate::sys::control::{Wait, recvmsg};
    use crate::sys::socket::{Kind, sendmsg, socketpair};

    struct Connection {
        near: Arc<OwnedFd>,
        far: OwnedFd,
        in_flight: InFlight,
    }

    impl Connection {
        fn new(order: Order) -> Self {
            let (near, far) = socketpair(Kind::Seqpacket).unwrap();
            Self {
                near: Arc::new(near),
                far,
                in_flight: InFlight::new(order),
            }
        }

        /// Sends `fds` descriptors, unless that exceeds the budget. Returns true if they were sent.
        fn send(&mut self, account: &Arc<Account>, fds: usize) -> bool {
            let cost = Cost::in_flight(fds, 0);
            let charge = self.in_flight.try_charge(account, cost);
            let fds = vec![self.far.as_fd(); fds];
            charge.is_some_and(|charge| {
                sendmsg(self.near.as_fd(), b"x", &fds, None, Wait::Never).unwrap();
                self.in_flight.add(&self.near, charge);
                true
            })
        }

        fn receive(&self) {
            recvmsg(self.far.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
        }

        fn fds(&self) -> usize {
            self.in_flight.unread().0
        }
    }

    fn account(descriptors: usize) -> Arc<Account> {
        let limits = Limits {
            user_descriptors: descriptors,
            ..Limits::default()
        };
        Accounts::new(&limits).of(None)
    }

    #[test]
    fn descriptors_are_in_flight_up_to_the_limit_until_they_are_read() {
        let account = account(3);
        let mut connection = Connection::new(Order::Sent);
        assert!(connection.send(&account, 2) && connection.send(&account, 1));
        assert!(!connection.send(&account, 1));
        connection.receive();
        assert_eq!(connection.fds(), 1);
        assert!(!connection.send(&account, 3) && connection.send(&account, 2));
        drop(connection);
        assert!(
            Connection::new(Order::Sent).send(&account, 3),
            "a closed connection has nothing in flight"
        );
    }

    #[test]
    fn more_than_the_limit_may_be_in_flight_if_nothing_else_is() {
        let account = account(3);
        let mut connection = Connection::new(Order::Sent);
        assert!(connection.send(&account, 7) && !connection.send(&account, 1));
        connection.receive();
        assert!(connection.send(&account, 1) && !connection.send(&account, 7));
    }

    #[test]
    fn descriptors_that_another_connection_of_the_user_has_read_are_found() {
        let account = account(2);
        let (mut one, mut other) = (Connection::new(Order::Sent), Connection::new(Order::Sent));
        assert!(one.send(&account, 2) && !other.send(&account, 1));
        one.receive();
        let until = Instant::now() + Duration::from_secs(20);
        while !other.send(&account, 1) {
            assert!(Instant::now() < until, "the kernel is asked after a pause");
        }
    }

    #[test]
    fn messages_read_in_any_order_count_as_the_most_expensive() {
        let account = account(9);
        let mut connection = Connection::new(Order::Any);
        for fds in [4, 1, 2] {
            assert!(connection.send(&account, fds));
        }
        for left in [6, 4, 0] {
            connection.receive();
            assert_eq!(connection.fds(), left);
        }
    }
}
