//! Parked calls: those that wait, unread, until the program has decided whether to allow them.
//!
//! A parked call is a deferred call whose handler has not run. It counts as one, and ends as one: by a cancellation, when its
//! caller disconnects, or with its server.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{DeferredCall, DeferredId, PendingReplies, run_callback};
use crate::accounts::{Account, Cost};
use crate::envelope::Id;
use crate::fds::Fds;
use crate::peer::Peer;
use crate::queue::route::{Caller, ReplyRoute};
use crate::sys::lock;

/// A call that has not been read further than its envelope.
pub(crate) struct ParkedCall {
    pub(crate) text: Vec<u8>,
    pub(crate) fds: Fds,
    /// The account that it is charged to.
    pub(crate) account: Arc<Account>,
    /// Who has sent it, as known then.
    pub(crate) peer: Option<Peer>,
    /// The tag of the session or adopted connection that it came on.
    pub(crate) tag: Option<u64>,
    /// Until when its caller waits.
    pub(crate) deadline: Option<Instant>,
}

/// What happens to a parked call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is dispatched.
    Allow,
    /// It is refused, because the program says so.
    Refuse,
    /// Its deadline has passed.
    Expire,
    /// The server shuts down.
    Stop,
}

/// The state of all parked calls together.
#[derive(Default)]
pub(super) struct Parking {
    /// The calls that have been decided about, for the loop. Some may have ended since.
    decided: VecDeque<(ReplyRoute, DeferredId, Decision)>,
    /// No deadline of a parked call is earlier.
    earliest: Option<Instant>,
}

impl PendingReplies {
    /// Parks the call that `park` makes, unless its caller or its user has no room for it: then `park` is not called.
    pub(crate) fn park(
        &self,
        caller: &Caller<'_>,
        id: Option<&Id<'_>>,
        cost: Cost,
        park: impl FnOnce() -> ParkedCall,
    ) -> Option<DeferredId> {
        if !self.has_room(caller) {
            return None;
        }
        let charge = caller.account.try_charge(cost)?;
        let parked = park();
        let mut state = lock(&self.state);
        state.last_id += 1;
        let deferred = DeferredId(state.last_id);
        let earliest = &mut state.parking.earliest;
        if parked.deadline.is_some() && (earliest.is_none() || parked.deadline < *earliest) {
            *earliest = parked.deadline;
            // The loop, which is in a turn, sets its timer before it sleeps.
            self.signaled.store(true, Ordering::Release);
        }
        let call = DeferredCall {
            id: id.map(|id| id.clone().into_owned()),
            on_cancel: None,
            parked: Some(Box::new(parked)),
            _charge: charge,
        };
        self.insert(&mut state, caller, deferred, call);
        Some(deferred)
    }

    /// Decides about a parked call. Does nothing if it has ended.
    pub(crate) fn decide(&self, route: &ReplyRoute, id: DeferredId, decision: Decision) {
        let mut state = lock(&self.state);
        let calls = state.callers.get_mut(route);
        if calls.and_then(|calls| calls.get_mut(id)).is_some() {
            let decided = (route.clone(), id, decision);
            state.parking.decided.push_back(decided);
            drop(state);
            self.signal();
        }
    }

    /// Decides about all parked calls for which `applies` is true. Returns the earliest deadline of the others.
    fn decide_all(
        &self,
        decision: Decision,
        applies: impl Fn(&ParkedCall) -> bool,
    ) -> Option<Instant> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let mut earliest: Option<Instant> = None;
        for (route, calls) in &state.callers {
            for (id, call) in &calls.0 {
                let Some(parked) = &call.parked else {
                    continue;
                };
                if applies(parked) {
                    let decided = (route.clone(), *id, decision);
                    state.parking.decided.push_back(decided);
                } else if let Some(deadline) = parked.deadline {
                    earliest = Some(earliest.map_or(deadline, |time| time.min(deadline)));
                }
            }
        }
        state.parking.earliest = earliest;
        earliest
    }

    /// Ends all parked calls soon: the server shuts down.
    pub(crate) fn stop_parked(&self) {
        if self.deferred() > 0 {
            self.decide_all(Decision::Stop, |_| true);
            self.signal();
        }
    }

    /// Lets the calls whose deadline has passed expire. Returns the earliest deadline of the others.
    pub(crate) fn expire_parked(&self) -> Option<Instant> {
        let earliest = lock(&self.state).parking.earliest?;
        let now = Instant::now();
        if now < earliest {
            return Some(earliest);
        }
        let is_due = |deadline: Instant| deadline <= now;
        self.decide_all(Decision::Expire, |call| call.deadline.is_some_and(is_due))
    }

    /// Returns true if calls have been decided about.
    pub(crate) fn has_decided(&self) -> bool {
        !lock(&self.state).parking.decided.is_empty()
    }

    /// Takes the next call that has been decided about. It is no longer deferred.
    pub(crate) fn next_decided(&self) -> Option<(ReplyRoute, Box<ParkedCall>, Decision)> {
        let mut state = lock(&self.state);
        while let Some((route, id, decision)) = state.parking.decided.pop_front() {
            let Some(mut call) = self.remove(&mut state, &route, id) else {
                continue;
            };
            drop(state);
            let parked = call.parked.take()?;
            let expired = parked.deadline.is_some_and(|end| Instant::now() >= end);
            let decision = match decision {
                Decision::Allow if expired => Decision::Expire,
                decision => decision,
            };
            if matches!(decision, Decision::Expire | Decision::Stop) {
                call.on_cancel.into_iter().for_each(run_callback);
            }
            return Some((route, parked, decision));
        }
        None
    }
}
