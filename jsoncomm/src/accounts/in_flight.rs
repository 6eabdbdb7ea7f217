//! Descriptors, and bytes in memfds, that have been sent and that nobody may have read yet.
//!
//! The kernel keeps them open meanwhile, and counts descriptors in flight against the user that sent them: above
//! `RLIMIT_NOFILE` nothing of that user's can be sent with a descriptor (`ETOOMANYREFS`, [unix(7)]), and where nothing is
//! counted, as for root, they fill the machine. So what is in flight is charged to the user it was sent to.
//!
//! No event says when a peer reads, and asking costs a system call. So what is sent is taken for unread until the
//! budget would be exceeded; only then the kernel is asked.
//!
//! [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Account, Charge, Cost};
use crate::sys::control::{UNREAD_MIN, unread};

/// In which order what a socket has sent is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// In that in which it was sent: there is one peer.
    Sent,
    /// In any: there are several.
    Any,
}

/// What one socket has in flight. Nothing is kept of a socket that never sends any of it.
#[derive(Debug)]
pub(crate) struct InFlight {
    order: Order,
    sent: Option<Arc<Sent>>,
}

impl InFlight {
    pub(crate) fn new(order: Order) -> Self {
        let sent = None;
        Self { order, sent }
    }

    /// Charges what `socket` is about to send. `None` when that is more than may be in flight to the peers of this
    /// account, as far as is known; something always may if nothing is.
    pub(crate) fn try_charge(
        &self,
        account: &Arc<Account>,
        socket: &Arc<OwnedFd>,
        cost: Cost,
    ) -> Option<Charge> {
        if let Some(charge) = account.try_charge_one(cost) {
            return Some(charge);
        }
        if let Some(sent) = &self.sent {
            sent.look(socket);
        }
        let charge = account.try_charge_one(cost);
        charge.or_else(|| account.look().then(|| account.try_charge_one(cost))?)
    }

    /// Notes that `socket` has sent what was charged.
    pub(crate) fn add(&mut self, socket: &Arc<OwnedFd>, charge: Charge) {
        let sent = self.sent.get_or_insert_with(|| {
            let sent = Arc::new(Sent {
                socket: Arc::downgrade(socket),
                order: self.order,
                charges: Mutex::default(),
            });
            charge.account.register(&sent);
            sent
        });
        sent.lock().push_back(charge);
    }

    /// Asks the kernel whether anything may still be in flight.
    pub(crate) fn is_unread(&self, socket: &Arc<OwnedFd>) -> bool {
        self.look(socket) != (0, 0)
    }

    /// Asks the kernel what is still in flight. Returns how many descriptors and how many bytes, at most.
    pub(crate) fn look(&self, socket: &Arc<OwnedFd>) -> (usize, usize) {
        let Some(sent) = &self.sent else {
            return (0, 0);
        };
        sent.look(socket);
        let charges = sent.lock();
        charges.iter().fold((0, 0), |(fds, bytes), charge| {
            let cost = &charge.cost;
            (fds + cost.fds_in_flight, bytes + cost.bytes_in_flight)
        })
    }
}

/// What may be unread of what one socket has sent.
#[derive(Debug)]
pub(super) struct Sent {
    socket: Weak<OwnedFd>,
    order: Order,
    /// One for each message that has descriptors, oldest first.
    charges: Mutex<VecDeque<Charge>>,
}

impl Sent {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Charge>> {
        // Nothing panics under this lock.
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the kernel how much is unread, and gives back what cannot be.
    fn look(&self, socket: &OwnedFd) {
        let mut charges = self.lock();
        if charges.is_empty() {
            return;
        }
        // If that fails, everything may still be.
        let Ok(bytes) = unread(socket.as_fd()) else {
            return;
        };
        // Not all of these have descriptors.
        let messages = bytes / UNREAD_MIN;
        let read = charges.len().saturating_sub(messages);
        if self.order == Order::Any && read > 0 {
            // Those that are unread can be any, so the most expensive ones.
            let cost = |charge: &Charge| (charge.cost.bytes_in_flight, charge.cost.fds_in_flight);
            charges.make_contiguous().sort_unstable_by_key(cost);
        }
        charges.drain(..read);
    }
}

/// The sockets that something is in flight from, at a user's expense.
#[derive(Debug, Default)]
pub(super) struct Senders {
    sent: Vec<Weak<Sent>>,
    /// When all were asked.
    looked: Option<Instant>,
}

impl Account {
    /// Charges it if it is within the limit, or if nothing of its kind is charged: one of any size always goes.
    pub(crate) fn try_charge_one(self: &Arc<Self>, cost: Cost) -> Option<Charge> {
        let fits = self.fits(&cost, |used, wanted, limit| {
            used == 0 || used.saturating_add(wanted) <= limit
        });
        fits.then(|| self.charge(cost))
    }

    fn senders(&self) -> MutexGuard<'_, Senders> {
        // Nothing panics under this lock.
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a socket asked when the budget is used up.
    fn register(&self, sent: &Arc<Sent>) {
        let mut senders = self.senders();
        senders.sent.retain(|sent| sent.strong_count() > 0);
        senders.sent.push(Arc::downgrade(sent));
    }

    /// Asks the kernel about all that is in flight to this user's peers. Returns false if it was asked a moment ago,
    /// so that whoever uses up the budget cannot use up our time by it.
    fn look(&self) -> bool {
        /// There are as many to ask as descriptors may be in flight, or connections, whichever are fewer.
        const PAUSE: Duration = Duration::from_millis(1);
        let mut senders = self.senders();
        let now = Instant::now();
        if senders.looked.is_some_and(|looked| now < looked + PAUSE) {
            return false;
        }
        senders.looked = Some(now);
        for sent in senders.sent.iter().filter_map(Weak::upgrade) {
            if let Some(socket) = sent.socket.upgrade() {
                sent.look(&socket);
            }
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

    struct Line {
        near: Arc<OwnedFd>,
        far: OwnedFd,
        in_flight: InFlight,
    }

    impl Line {
        fn new(order: Order) -> Self {
            let (near, far) = socketpair(Kind::Seqpacket).unwrap();
            Self {
                near: Arc::new(near),
                far,
                in_flight: InFlight::new(order),
            }
        }

        /// Sends so many descriptors; says whether they may be in flight.
        fn send(&mut self, account: &Arc<Account>, fds: usize) -> bool {
            let cost = Cost {
                fds_in_flight: fds,
                ..Cost::NONE
            };
            let charge = self.in_flight.try_charge(account, &self.near, cost);
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
            self.in_flight.look(&self.near).0
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
        let mut line = Line::new(Order::Sent);
        assert!(line.send(&account, 2) && line.send(&account, 1));
        assert!(!line.send(&account, 1));
        line.receive();
        assert_eq!(line.fds(), 1);
        assert!(!line.send(&account, 3) && line.send(&account, 2));
        drop(line);
        assert!(
            Line::new(Order::Sent).send(&account, 3),
            "nothing is left of it"
        );
    }

    #[test]
    fn more_than_the_limit_are_in_flight_if_nothing_else_is() {
        let account = account(3);
        let mut line = Line::new(Order::Sent);
        assert!(line.send(&account, 7) && !line.send(&account, 1));
        line.receive();
        assert!(line.send(&account, 1) && !line.send(&account, 7));
    }

    #[test]
    fn what_another_connection_of_the_user_has_read_is_found() {
        let account = account(2);
        let (mut one, mut other) = (Line::new(Order::Sent), Line::new(Order::Sent));
        assert!(one.send(&account, 2) && !other.send(&account, 1));
        one.receive();
        let until = Instant::now() + Duration::from_secs(20);
        while !other.send(&account, 1) {
            assert!(Instant::now() < until, "it is asked for once in a while");
        }
    }

    #[test]
    fn what_can_be_read_in_any_order_is_taken_for_the_most_that_it_can_be() {
        let account = account(9);
        let mut line = Line::new(Order::Any);
        for fds in [4, 1, 2] {
            assert!(line.send(&account, fds));
        }
        for left in [6, 4, 0] {
            line.receive();
            assert_eq!(line.fds(), left);
        }
    }
}
