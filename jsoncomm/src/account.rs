//! What each user costs the server: connections, calls, bytes and descriptors that wait.
//!
//! A peer can be many connections and any number of datagram sockets, so what one of them may use is not
//! enough of a bound. Peers whose user is not known share one account.

mod waiters;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fds::{Closer, Discard, Fds, Unwanted};
use crate::limits::Limits;
use crate::sys::socket::takes_all;

use waiters::{Resumed, Waiters};

/// An amount of everything that is accounted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) connections: usize,
    pub(crate) deferred: usize,
    pub(crate) bytes: usize,
    pub(crate) descriptors: usize,
    /// Of the descriptors, those that nobody wants and that are still open.
    pub(crate) unwanted: usize,
    /// The memfds of large texts, which have been read and are still open. They are as they should be, so they are no
    /// part of the descriptors.
    pub(crate) payloads: usize,
}

impl Cost {
    pub(crate) const NONE: Self = Self {
        connections: 0,
        deferred: 0,
        bytes: 0,
        descriptors: 0,
        unwanted: 0,
        payloads: 0,
    };
}

/// What one user costs now.
#[derive(Debug, Default)]
pub(crate) struct Account {
    limit: Cost,
    connections: AtomicUsize,
    deferred: AtomicUsize,
    bytes: AtomicUsize,
    descriptors: AtomicUsize,
    unwanted: AtomicUsize,
    payloads: AtomicUsize,
    /// One for each user, so that nobody's descriptors wait behind another's.
    closer: Closer,
    /// What [has to wait](Self::must_wait) until more of them are closed.
    readers: Waiters,
    /// What may go on of all that waits.
    resumed: Arc<Resumed>,
}

/// What is charged of something, and how it is found in an amount.
type Part<'a> = (&'a AtomicUsize, fn(&Cost) -> usize);

impl Account {
    /// What is charged now, beside its limit.
    fn parts(&self) -> [Part<'_>; 6] {
        [
            (&self.connections, |cost| cost.connections),
            (&self.deferred, |cost| cost.deferred),
            (&self.bytes, |cost| cost.bytes),
            (&self.descriptors, |cost| cost.descriptors),
            (&self.unwanted, |cost| cost.unwanted),
            (&self.payloads, |cost| cost.payloads),
        ]
    }

    /// Says whether so much more is within the limit. What costs nothing always is.
    pub(crate) fn has_room(&self, cost: Cost) -> bool {
        self.parts().iter().all(|(used, of)| {
            let wanted = of(&cost);
            wanted == 0 || used.load(Ordering::Relaxed).saturating_add(wanted) <= of(&self.limit)
        })
    }

    /// Says whether items of streams may wait, which can do without: less than half of what may wait does. The rest
    /// is for what cannot.
    pub(crate) fn has_room_to_spare(&self) -> bool {
        let half =
            |used: &AtomicUsize, limit: usize| used.load(Ordering::Relaxed) < limit.div_ceil(2);
        half(&self.bytes, self.limit.bytes) && half(&self.descriptors, self.limit.descriptors)
    }

    /// Charges it, whatever the limit.
    pub(crate) fn charge(self: &Arc<Self>, cost: Cost) -> Charge {
        for (used, of) in self.parts() {
            used.fetch_add(of(&cost), Ordering::Relaxed);
        }
        let account = Arc::clone(self);
        Charge { account, cost }
    }

    /// Says whether more descriptors that nobody wants wait to be closed than its peers may have sent.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed) > self.limit.unwanted
    }

    /// Returns true if messages of its peers have to wait: more descriptors that came with earlier ones wait to be closed
    /// than may.
    pub(crate) fn must_wait(&self) -> bool {
        self.is_overdrawn() || self.payloads.load(Ordering::Relaxed) > self.limit.payloads
    }

    /// Has a source of the loop wait while its messages [have to](Self::must_wait). Returns true if it does; it is resumed
    /// when they need not any more.
    pub(crate) fn wait_to_read(&self, key: u64) -> bool {
        self.readers.wait(key, || self.must_wait())
    }

    /// Forgets a source of the loop that has gone, and may have waited.
    pub(crate) fn forget(&self, key: u64) {
        self.readers.forget(key);
    }

    /// Resumes what has waited for so much to be closed, and need not any more.
    fn resume(&self, closed: &Cost) {
        if closed.unwanted + closed.payloads > 0 {
            self.readers.resume(&self.resumed, || self.must_wait());
        }
    }

    /// Closes the memfd of a large text that has been read.
    pub(crate) fn close_payload(self: &Arc<Self>, payload: Fds) {
        let fds: Vec<OwnedFd> = payload.into_iter().collect();
        let cost = Cost {
            payloads: fds.len(),
            ..Cost::NONE
        };
        self.closer.close((Unwanted(fds), self.charge(cost)));
    }

    /// Charges it, if it is within the limit.
    pub(crate) fn try_charge(self: &Arc<Self>, cost: Cost) -> Option<Charge> {
        self.has_room(cost).then(|| self.charge(cost))
    }
}

impl Discard for Account {
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>) {
        let cost = Cost {
            descriptors: fds.len(),
            unwanted: fds.len(),
            ..Cost::default()
        };
        self.closer.close((Unwanted(fds), self.charge(cost)));
    }
}

/// Something that is charged to an account until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    account: Arc<Account>,
    cost: Cost,
}

impl Drop for Charge {
    fn drop(&mut self) {
        for (used, of) in self.account.parts() {
            used.fetch_sub(of(&self.cost), Ordering::Relaxed);
        }
        self.account.resume(&self.cost);
    }
}

/// A connection that is being closed. If descriptors are unread in it, that waits for others of its user.
struct Leaving<T: AsFd + Send + 'static> {
    rest: Option<Rest<T>>,
    account: Arc<Account>,
}

/// The socket, and what counts it until it is closed.
type Rest<T> = (T, Charge, Arc<()>);

impl<T: AsFd + Send + 'static> Drop for Leaving<T> {
    fn drop(&mut self) {
        let all = |rest: &Rest<T>| takes_all(rest.0.as_fd()).unwrap_or(false);
        if let Some(rest) = self.rest.take_if(|rest| !all(rest)) {
            self.account.closer.close(rest);
        }
    }
}

/// The accounts of those users that cost something.
#[derive(Debug)]
pub(crate) struct Accounts {
    limit: Cost,
    users: HashMap<Option<u32>, Arc<Account>>,
    /// For sockets that are no user's.
    closer: Closer,
    /// For connections, which do not wait here.
    leaving: Closer,
    /// One more of it is with each connection that is being closed.
    closing: Arc<()>,
    /// Sources of the loop that have waited for something to be closed, and may go on.
    resumed: Arc<Resumed>,
    /// How many there may be until it is time to forget those that cost nothing.
    crowd: usize,
}

impl Accounts {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limit: Cost {
                connections: limits.user_connections,
                deferred: limits.user_deferred,
                bytes: limits.user_waiting_bytes,
                descriptors: limits.user_descriptors,
                unwanted: limits.user_descriptors,
                payloads: limits.user_descriptors,
            },
            users: HashMap::new(),
            closer: Closer::default(),
            leaving: Closer::default(),
            closing: Arc::default(),
            resumed: Arc::default(),
            crowd: 0,
        }
    }

    /// Has the loop woken by this when sources may go on ([`take_resumed`](Self::take_resumed)).
    pub(crate) fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.resumed.set_wake(wake);
    }

    /// Takes the keys of the sources that have waited for something to be closed, and may go on.
    pub(crate) fn take_resumed(&self) -> Vec<u64> {
        self.resumed.take()
    }

    /// Who closes what may take its time.
    pub(crate) fn closer(&self) -> &Closer {
        &self.closer
    }

    /// Closes a user's connection, which has been shut down, where that may take its time; it is charged until then.
    pub(crate) fn close<T>(&self, account: &Arc<Account>, socket: T, charge: Charge)
    where
        T: AsFd + Send + 'static,
    {
        self.leaving.close(Leaving {
            rest: Some((socket, charge, Arc::clone(&self.closing))),
            account: Arc::clone(account),
        });
    }

    /// How many connections are being closed there.
    pub(crate) fn closing(&self) -> usize {
        Arc::strong_count(&self.closing) - 1
    }

    /// The account of a user, or of those who are not known.
    pub(crate) fn of(&mut self, user: Option<u32>) -> Arc<Account> {
        /// So few are not worth looking through.
        const FEW: usize = 64;
        if let Some(account) = self.users.get(&user) {
            return Arc::clone(account);
        }
        if self.users.len() >= self.crowd.max(FEW) {
            self.users
                .retain(|_, account| Arc::strong_count(account) > 1);
            self.crowd = self.users.len() * 2;
        }
        let account = Arc::new(Account {
            limit: self.limit,
            resumed: Arc::clone(&self.resumed),
            ..Account::default()
        });
        self.users.insert(user, Arc::clone(&account));
        account
    }

    /// Says whether nobody costs anything.
    #[cfg(all(test, feature = "derive"))]
    pub(crate) fn is_idle(&self) -> bool {
        let used = self.users.values().flat_map(|account| account.parts());
        used.into_iter()
            .all(|(used, _)| used.load(Ordering::Relaxed) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_charged_up_to_the_limit_and_no_further() {
        let mut limits = Limits::default();
        (limits.user_waiting_bytes, limits.user_descriptors) = (10, 1);
        let mut accounts = Accounts::new(&limits);
        let account = accounts.of(Some(7));
        let bytes = |bytes| Cost {
            bytes,
            ..Cost::default()
        };
        assert!(account.try_charge(bytes(11)).is_none(), "above");
        let ten = account.try_charge(bytes(10)).unwrap();
        assert!(account.try_charge(bytes(1)).is_none());
        let descriptors = Cost {
            descriptors: 1,
            ..Cost::default()
        };
        let one = account.try_charge(descriptors).unwrap();
        assert!(account.try_charge(descriptors).is_none());
        assert!(accounts.of(Some(8)).try_charge(bytes(10)).is_some());
        drop((ten, one));
        assert!(accounts.of(Some(7)).has_room(bytes(10)));
    }

    #[test]
    fn there_is_room_to_spare_until_half_is_used() {
        for (limit, most) in [(0, 0), (1, 1), (10, 5), (11, 6), (usize::MAX, 7)] {
            let mut limits = Limits::default();
            (limits.user_waiting_bytes, limits.user_descriptors) = (limit, limit);
            let account = Accounts::new(&limits).of(None);
            let mut charges = Vec::new();
            while account.has_room_to_spare() && charges.len() < 7 {
                charges.push(account.charge(Cost {
                    bytes: 1,
                    ..Cost::default()
                }));
            }
            assert_eq!(charges.len(), most, "{limit}");
        }
    }

    #[test]
    fn users_that_cost_nothing_are_forgotten() {
        let mut accounts = Accounts::new(&Limits::default());
        let kept = accounts.of(None);
        for uid in 0..1000 {
            accounts.of(Some(uid));
        }
        assert!(accounts.users.len() <= 64 + 1);
        assert!(Arc::ptr_eq(&kept, &accounts.of(None)));
    }
}
