//! Rules for methods, and what becomes of the calls that wait for their verdicts.

use std::time::Instant;

use super::source::SourceAction;
use super::{Endpoint, Server, Source, Token};
use crate::peer::Peer;
use crate::queue::{Caller, Decision, ParkedCall, PendingReplies, ReplyRoute};
use crate::reactor::Key;
use crate::router::Routes;
use crate::service::{
    Access, CallRule, Dispatch, ReplySink, UnreadCall, deadline_exceeded, not_authorized,
    shutting_down,
};

/// What a server needs for calls that are parked.
pub(super) struct Parking<S> {
    /// [`Server::settle_parked`]. A pointer, so that it is no part of a server without rules for methods.
    settle: fn(&mut Server<S>, &mut S),
    /// [`PendingReplies::stop_parked`].
    stop: fn(&PendingReplies),
    /// The timer for the earliest deadline of a parked call, and when it is due.
    timer: Option<(Instant, Token)>,
}

impl<S> Endpoint<'_, S> {
    /// Decides by `rule` about each call here to a method that has no rule of its own, before anything of the call but the method's
    /// name is looked at.
    ///
    /// The rule is called for every call, also for `#[oneway]` ones and for those in a batch, and returns an [`Access`] or a `bool`.
    /// A call that is refused gets the fault [`Fault::NOT_AUTHORIZED`](crate::Fault::NOT_AUTHORIZED); its arguments are not decoded, its descriptors are closed on
    /// another thread, and its connection stays. A one-way call that is refused is counted
    /// ([`Counts::refused_with`](crate::observe::Counts::refused_with)).
    ///
    /// | call | |
    /// |---|---|
    /// | of a peer whose identity is unknown, or about which the rule panics | is refused |
    /// | to an unknown method | gets [`Fault::METHOD_NOT_FOUND`](crate::Fault::METHOD_NOT_FOUND), without a call of the rule |
    /// | by an [older name](macro@crate::service) of a method | counts as one by its present name |
    /// | that reaches the [fallback](Endpoint::fallback) | is covered, whatever its name |
    /// | `rpc.discover` | is covered, as method `discover` of the service `rpc` |
    /// | `rpc.cancel` | is not covered: a caller can only cancel calls of its own |
    ///
    /// The rule that [`authorize`](Endpoint::authorize) sets comes first. A second call replaces the rule.
    ///
    /// # Panics
    ///
    /// If the endpoint is [bare](Endpoint::bare): the method is not known before the message is decoded. Use
    /// [`authorize`](Endpoint::authorize), or check [`Call::peer`](crate::Call::peer) in the handler.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn now(&mut self) -> u64;
    ///     fn set(&mut self, now: u64) -> Result<(), String>;
    /// }
    ///
    /// fn serve<S: Clock>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/clock.sock", Kind::Seqpacket)?;
    ///     endpoint
    ///         .serve::<dyn Clock>()
    ///         .authorize_calls(|call| call.peer().uid() == 0 || call.method() == "now");
    ///     Ok(())
    /// }
    /// ```
    #[track_caller]
    pub fn authorize_calls<A: Into<Access>>(
        self,
        rule: impl Fn(&UnreadCall<'_>) -> A + Send + Sync + 'static,
    ) -> Self {
        self.add_call_rule(rule, Routes::set_rule_for_all)
    }

    /// Decides by `rule` about each call here to one method, before anything else of the call is looked at. `method` is its whole
    /// name, such as `example.clock.set`, or an older one.
    ///
    /// It is the only rule for that method: that of [`authorize_calls`](Endpoint::authorize_calls), which has the details, is for
    /// all others. A second call for the same method replaces its rule.
    ///
    /// # Panics
    ///
    /// If the endpoint does not serve that method: [`serve`](Endpoint::serve) comes first, so that a wrong name leaves no method
    /// open. Also if the endpoint is [bare](Endpoint::bare).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn now(&mut self) -> u64;
    ///     fn set(&mut self, now: u64) -> Result<(), String>;
    /// }
    ///
    /// fn serve<S: Clock>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/clock.sock", Kind::Seqpacket)?;
    ///     endpoint
    ///         .serve::<dyn Clock>()
    ///         .authorize_method("example.clock.set", |call| call.peer().uid() == 0);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A rule that asks somebody else is at [`Verdict`](crate::server::Verdict).
    #[track_caller]
    pub fn authorize_method<A: Into<Access>>(
        self,
        method: &str,
        rule: impl Fn(&UnreadCall<'_>) -> A + Send + Sync + 'static,
    ) -> Self {
        let mut known = false;
        let endpoint = self.add_call_rule(rule, |routes, rule| {
            known = routes.set_rule(method, rule);
        });
        assert!(known, "method {method} is not served at this endpoint");
        endpoint
    }

    #[track_caller]
    fn add_call_rule<A: Into<Access>>(
        self,
        rule: impl Fn(&UnreadCall<'_>) -> A + Send + Sync + 'static,
        add: impl FnOnce(&mut Routes<S>, CallRule),
    ) -> Self {
        let timer = None;
        self.server.parking.get_or_insert(Parking {
            settle: Server::settle_parked,
            stop: PendingReplies::stop_parked,
            timer,
        });
        let rule = Box::new(move |call: &UnreadCall<'_>| rule(call).into());
        self.change(|routes| add(routes, rule))
            .assert_not_bare_with_rules()
    }

    /// Panics if the endpoint is bare and has rules for methods.
    #[track_caller]
    pub(super) fn assert_not_bare_with_rules(self) -> Self {
        let mut both = false;
        let endpoint = self.change(|routes| both = routes.is_bare() && routes.has_call_rules());
        assert!(!both, "a bare endpoint has no rules for methods");
        endpoint
    }
}

impl<S> Server<S> {
    /// Refuses all parked calls soon, as the server shuts down.
    pub(super) fn stop_parking(&self) {
        if let Some(parking) = &self.parking {
            (parking.stop)(&self.context.pending);
        }
    }

    /// Settles parked calls, if there can be any.
    pub(super) fn settle_if_parking(&mut self, state: &mut S) {
        if let Some(parking) = &self.parking {
            (parking.settle)(self, state);
        }
    }

    /// Dispatches or refuses the parked calls that have been decided about, at most as many as one source handles messages in a
    /// turn, and lets those expire whose deadline has passed.
    fn settle_parked(&mut self, state: &mut S) {
        let earliest = self.context.pending.expire_parked();
        self.context.pending.begin_turn();
        for _ in 0..self.context.limits.messages_per_turn.max(1) {
            let Some((route, call, decision)) = self.context.pending.next_decided() else {
                break;
            };
            self.settle(state, &route, *call, decision);
            if !self.context.is_own_process() {
                return;
            }
            self.send_posts();
        }
        self.context.pending.end_turn();
        if self.context.pending.has_decided() {
            // The others follow in the next turn.
            self.context.pending.signal();
        }
        self.set_parking_timer(earliest);
    }

    /// Sets the timer to the earliest deadline of a parked call.
    fn set_parking_timer(&mut self, earliest: Option<Instant>) {
        let set = self.parking.as_ref().and_then(|parking| parking.timer);
        if set.map(|(due, _)| due) == earliest {
            return;
        }
        if let Some((_, timer)) = set {
            self.remove(timer);
        }
        let timer = earliest.and_then(|due| {
            let left = due.saturating_duration_since(Instant::now());
            // Does nothing but have the loop settle. If it fails, it is set when the next call is parked or decided about.
            let timer = self.after(left, |_, control| control.post(|_| ())).ok()?;
            Some((due, timer))
        });
        if let Some(parking) = &mut self.parking {
            parking.timer = timer;
        }
    }

    /// Dispatches or refuses a call that was parked, unless its connection, session or socket is closed.
    fn settle(
        &mut self,
        state: &mut S,
        route: &ReplyRoute,
        mut call: ParkedCall,
        decision: Decision,
    ) {
        let key = Key::from_bits(route.key);
        let Some(mut source) = self.reactor.take(key) else {
            return;
        };
        let fds = std::mem::take(&mut call.fds);
        let caller = Caller {
            key: route.key,
            to: route.to.as_ref(),
            account: &call.account,
            peer: call.peer.as_ref(),
            tag: call.tag,
        };
        let mut writer;
        let (routes, sink): (&Routes<S>, &mut dyn ReplySink) = match &mut *source {
            Source::Connection(connection) if connection.writer.is_broken() => {
                return self.apply(key, source, SourceAction::Close);
            }
            Source::Connection(connection) => (&connection.routes, &mut connection.writer),
            Source::Datagrams(endpoint) => {
                let peer = caller.peer.map(Peer::credentials);
                writer = endpoint.sender.writer(caller.to, caller.account, peer);
                (&endpoint.routes, &mut writer)
            }
            _ => return self.reactor.put(key, source),
        };
        let mut dispatch = Dispatch {
            context: &mut self.context,
            sink,
            caller: &caller,
            text: &call.text,
            fds,
            bare: false,
            parked: Some(&call),
        };
        match decision {
            Decision::Allow => routes.dispatch(state, &mut dispatch),
            Decision::Refuse => dispatch.refuse(None, &not_authorized()),
            Decision::Expire => dispatch.refuse(None, &deadline_exceeded()),
            Decision::Stop => dispatch.refuse(None, &shutting_down()),
        }
        drop(dispatch);
        if !self.context.is_own_process() {
            return;
        }
        let action = match &mut *source {
            Source::Connection(connection) => connection.next(),
            Source::Datagrams(endpoint) => SourceAction::Keep(endpoint.set_timer()),
            _ => SourceAction::Keep(None),
        };
        self.apply(key, source, action);
    }
}
