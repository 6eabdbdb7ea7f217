//! One turn of the loop: each source that is ready acts, then changes are made.

use super::source::{SourceAction, Turn};
use super::{Server, Source};
use crate::observe::{EventKind, UndeliveredReason};
use crate::queue::ReplyRoute;
use crate::reactor::{Cause, Key};
use crate::sys::lock;

impl<S> Server<S> {
    /// Gives each source that is ready its turn.
    pub(super) fn act(&mut self, state: &mut S) {
        self.give_turns(state, |server, source, state, key, cause| match source {
            Source::Datagrams(endpoint) => endpoint.act(server.turn(state, key, cause)),
            Source::Connection(connection) => connection.act(server.turn(state, key, cause)),
            Source::Listener(listener) => server.accept(listener, key),
            other => server.act_without_peers(other, state, cause),
        });
    }

    /// Gives each source that is ready a turn by `act`, which returns what to do with it next.
    pub(super) fn give_turns(
        &mut self,
        state: &mut S,
        act: impl Fn(&mut Self, &mut Source<S>, &mut S, Key, Cause) -> SourceAction,
    ) {
        // Replies that other threads have posted while the loop was waiting.
        self.send_posts();
        let mut index = 0;
        while let Some((key, cause)) = self.turns.get(index).copied() {
            index += 1;
            let Some(mut source) = self.reactor.take(key) else {
                continue;
            };
            let action = act(self, &mut source, state, key, cause);
            if !self.context.is_own_process() {
                return;
            }
            self.apply(key, source, action);
            self.send_posts();
        }
    }

    /// What a source works with in its turn.
    pub(super) fn turn<'t>(&'t mut self, state: &'t mut S, key: Key, cause: Cause) -> Turn<'t, S> {
        Turn {
            state,
            context: &mut self.context,
            inbox: &mut self.inbox,
            key,
            cause,
        }
    }

    /// Gives a turn to a source that no peer sends calls to.
    pub(super) fn act_without_peers(
        &mut self,
        source: &mut Source<S>,
        state: &mut S,
        cause: Cause,
    ) -> SourceAction {
        match source {
            Source::Client(driven) => driven.act(cause),
            Source::Lingering(lingering) => lingering.act(),
            Source::Watched(watched) => watched.act(state, &mut self.control, cause),
            Source::Timer(timer) => timer.act(state, &mut self.control),
            Source::Datagrams(_)
            | Source::Connection(_)
            | Source::Listener(_)
            | Source::Sessions(_) => SourceAction::Keep(None),
        }
    }

    /// Applies the changes that have been posted, and counts the replies that have been lost.
    #[inline(never)]
    pub(super) fn apply_changes(&mut self) {
        // Sources that have waited for something to be closed are watched again.
        for key in self.context.accounts.resumed.take() {
            let key = Key::from_bits(key);
            self.act_on(key, |source| match source {
                Source::Connection(connection) => connection.next(),
                _ => SourceAction::READ,
            });
        }
        self.apply_requests();
        let changes = std::mem::take(&mut *lock(&self.changes));
        for change in changes {
            change(self);
        }
        self.context.note_losses();
    }

    /// Does with a source what it has returned: puts it back, or closes it.
    pub(super) fn apply(&mut self, key: Key, source: Box<Source<S>>, action: SourceAction) {
        let wake = match action {
            SourceAction::Keep(until) => until,
            SourceAction::Again(watch, until) => {
                self.reactor.rearm(key, &source, watch);
                until
            }
            SourceAction::Pause(time, watch) => {
                self.reactor.pause(key, &source, time, watch);
                None
            }
            SourceAction::Ignore(until) => {
                self.reactor.ignore(key, &source);
                until
            }
            SourceAction::Close => return self.close(key, source),
        };
        if let Some(time) = wake {
            self.reactor.wake_at(key, time);
        }
        self.reactor.put(key, source);
    }

    /// Takes a source out of the reactor, and does with it what `act` returns. Returns true if it was there.
    pub(super) fn act_on(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut Source<S>) -> SourceAction,
    ) -> bool {
        let Some(mut source) = self.reactor.take(key) else {
            return false;
        };
        let action = act(&mut source);
        self.apply(key, source, action);
        true
    }

    /// Removes a source that was taken out of the reactor, and closes it.
    pub(super) fn close(&mut self, key: Key, mut source: Box<Source<S>>) {
        self.reactor.release(key, &source);
        match &mut *source {
            Source::Connection(connection) => {
                self.ended.extend(connection.end());
                self.context.note(connection.writer.peer, EventKind::Closed);
                connection.note_lost(&mut self.context);
                // A server that is shutting down ends by itself, and can be run again.
                if connection.stops_server && self.stopping.is_none() {
                    self.control.handle.stop();
                }
                connection.account.forget(key.to_bits());
                let (key, to) = (key.to_bits(), None);
                self.context.pending.hang_up(&ReplyRoute { key, to });
            }
            Source::Datagrams(endpoint) => {
                self.context.pending.hang_up_all(key.to_bits());
                let (reason, waiting) = (UndeliveredReason::BacklogFull, endpoint.waiting());
                self.context.note_lost(None, reason, waiting);
            }
            // Their timers may be due in a long time; those of other sources are due soon.
            Source::Timer(_) | Source::Client(_) => self.reactor.cancel_wakes(key),
            Source::Sessions(_) => self.context.pending.requests.unregister(key.to_bits()),
            Source::Lingering(_) | Source::Listener(_) | Source::Watched(_) => {}
        }
        let counts = matches!(*source, Source::Connection(_) | Source::Lingering(_));
        match source.close(&self.context) {
            Some(mut lingering) => {
                let action = lingering.act();
                let source = Box::new(Source::Lingering(lingering));
                // Adding cannot fail, as nothing of it is watched.
                if let Ok(key) = self.reactor.add(source) {
                    self.act_on(key, |_| action);
                }
            }
            None if counts => self.context.pending.requests.uncount_connection(),
            None => {}
        }
    }
}
