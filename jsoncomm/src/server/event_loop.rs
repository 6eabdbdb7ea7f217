//! One turn of the loop: each source that is ready acts, then changes are made.

use super::source::{SourceAction, Turn};
use super::{Server, Source};
use crate::observe::{EventKind, UndeliveredReason};
use crate::queue::ReplyRoute;
use crate::reactor::{Key, Watch};

impl<S> Server<S> {
    /// Gives each source that is ready its turn.
    pub(super) fn act(&mut self, state: &mut S) {
        // Replies that other threads have posted while the loop was waiting.
        self.send_posts();
        let mut index = 0;
        while let Some((key, cause)) = self.turns.get(index).copied() {
            index += 1;
            let Some(mut source) = self.reactor.take(key) else {
                continue;
            };
            let turn = Turn {
                state: &mut *state,
                context: &mut self.context,
                inbox: &mut self.inbox,
                key,
                cause,
            };
            let action = match &mut *source {
                Source::Datagrams(endpoint) => endpoint.act(turn),
                Source::Connection(connection) => connection.act(turn),
                Source::Listener(listener) => self.accept(listener, key),
                Source::Client(driven) => driven.act(cause),
                Source::Lingering(lingering) => lingering.act(),
                Source::Watched(watched) => watched.act(state, &mut self.control, cause),
                Source::Timer(timer) => timer.act(state, &mut self.control),
            };
            if !self.context.is_here() {
                return;
            }
            self.apply(key, source, action);
            self.send_posts();
        }
    }

    /// Applies the changes that have been posted, and counts the replies that have been lost.
    #[inline(never)]
    pub(super) fn apply_changes(&mut self) {
        self.context.pending.clear_signal();
        self.resume();
        let mut changes = std::mem::take(&mut self.control.changes);
        changes.append(&mut self.handle.take_changes());
        for change in changes {
            change(self);
        }
        let losses = self.context.pending.take_losses();
        self.context.note_losses(losses);
        self.control.stop |= self.context.pending.take_stop();
    }

    /// Watches sources again that have waited for something to be closed.
    fn resume(&mut self) {
        for key in self.context.accounts.take_resumed() {
            let key = Key::from_bits(key);
            if let Some(source) = self.reactor.take(key) {
                let action = match &*source {
                    Source::Connection(connection) => connection.writer.next(),
                    _ => SourceAction::Again(Watch::Reading),
                };
                self.apply(key, source, action);
            }
        }
    }

    /// Does with a source what it has returned: puts it back, or closes it.
    pub(super) fn apply(&mut self, key: Key, source: Box<Source<S>>, action: SourceAction) {
        match action {
            SourceAction::Keep => {}
            SourceAction::Again(watch) => self.reactor.rearm(key, &source, watch),
            SourceAction::At(time) => self.reactor.wake_at(key, time),
            SourceAction::AgainAt(watch, time) => {
                self.reactor.rearm(key, &source, watch);
                self.reactor.wake_at(key, time);
            }
            SourceAction::Pause(time, watch) => self.reactor.pause(key, &source, time, watch),
            SourceAction::Ignore(until) => {
                self.reactor.ignore(key, &source);
                if let Some(time) = until {
                    self.reactor.wake_at(key, time);
                }
            }
            SourceAction::Close => return self.close(key, source),
        }
        self.reactor.put(key, source);
    }

    /// Removes a source that was taken out of the reactor, and closes it.
    pub(super) fn close(&mut self, key: Key, source: Box<Source<S>>) {
        self.reactor.release(key, &source);
        if let Source::Timer(_) | Source::Client(_) = *source {
            // Their timers may be due in a long time; those of other sources are due soon.
            self.reactor.cancel_wakes(key);
        }
        match *source {
            Source::Connection(connection) => {
                let peer = connection.writer.peer;
                self.context.note(peer, EventKind::Closed);
                connection.note_lost(&mut self.context);
                // A server that is shutting down ends by itself, and can be run again.
                if connection.stops_server && self.stopping.is_none() {
                    self.handle.stop();
                }
                connection.cancel_waits(key);
                let (key, to) = (key.to_bits(), None);
                self.context.pending.hang_up(&ReplyRoute { key, to });
                match connection.close(&self.context) {
                    Some(lingering) => self.linger(lingering),
                    None => self.connections -= 1,
                }
            }
            Source::Datagrams(endpoint) => {
                self.context.pending.hang_up_all(key.to_bits());
                let waiting = endpoint.waiting();
                self.context
                    .note_lost(None, UndeliveredReason::BacklogFull, waiting);
                endpoint.close(&self.context);
            }
            Source::Lingering(lingering) => {
                self.connections -= 1;
                lingering.close(&self.context);
            }
            Source::Listener(listener) => listener.close(&self.context),
            Source::Watched(_) | Source::Timer(_) | Source::Client(_) => {}
        }
    }
}
