//! One turn of the loop: what is ready acts, then changes are made.

use super::source::SourceAction;
use super::{Server, Source};
use crate::observe::{EventKind, UndeliveredReason};
use crate::queue::ReplyRoute;
use crate::reactor::{Cause, Key, Watch};

impl<S> Server<S> {
    /// Gives each that is to act its turn.
    pub(super) fn act(&mut self, state: &mut S) {
        // Replies that were posted while nobody was in a turn.
        self.send_posts();
        let mut place = 0;
        while let Some((key, cause)) = self.turns.get(place).copied() {
            place += 1;
            let Some(mut source) = self.reactor.take(key) else {
                continue;
            };
            let (desk, inbox) = (&mut self.desk, &mut self.inbox);
            let next = match &mut *source {
                Source::Datagrams(endpoint) => endpoint.act(state, desk, inbox, key, cause),
                Source::Connection(connection) => connection.act(state, desk, inbox, key, cause),
                Source::Listener(door) => self.accept(door, key),
                Source::Client(driven) => driven.act(cause),
                Source::Leaving(leaving) => leaving.act(),
                Source::Watched(_) | Source::Timer(_) => self.call_back(state, &mut source, cause),
            };
            if !self.desk.is_here() {
                return;
            }
            self.settle(key, source, next);
            self.send_posts();
        }
    }

    /// Has a watch or a timer call the program back.
    #[inline(never)]
    fn call_back(&mut self, state: &mut S, source: &mut Source<S>, cause: Cause) -> SourceAction {
        self.control.forget = false;
        match source {
            Source::Watched(watched) => watched.act(state, &mut self.control, cause),
            Source::Timer(timer) => timer.act(state, &mut self.control),
            _ => SourceAction::Keep,
        }
    }

    /// Makes the changes that have been asked for, now that all have had their turn, and counts what has come to
    /// nothing.
    #[inline(never)]
    pub(super) fn hear_news(&mut self) {
        self.desk.mailbox.clear_signal();
        self.resume();
        let mut changes = std::mem::take(&mut self.control.changes);
        changes.append(&mut self.remote.take_changes());
        for change in changes {
            change(self);
        }
        let losses = self.desk.mailbox.take_losses();
        self.desk.note_losses(losses);
        self.control.stop |= self.desk.mailbox.take_stop();
    }

    /// Watches those sources again that have waited for something to be closed, for what they want by now.
    fn resume(&mut self) {
        for key in self.desk.accounts.take_resumed() {
            let key = Key::from_bits(key);
            if let Some(source) = self.reactor.take(key) {
                let next = match &*source {
                    Source::Connection(connection) => connection.next(),
                    _ => SourceAction::Again(Watch::Reading),
                };
                self.settle(key, source, next);
            }
        }
    }

    /// Puts a source back as it wishes, or closes it.
    pub(super) fn settle(&mut self, key: Key, source: Box<Source<S>>, next: SourceAction) {
        match next {
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
                until
                    .into_iter()
                    .for_each(|time| self.reactor.wake_at(key, time));
            }
            SourceAction::Close => return self.close(key, source),
        }
        self.reactor.put(key, source);
    }

    /// Forgets a source that was taken out, and closes it.
    pub(super) fn close(&mut self, key: Key, source: Box<Source<S>>) {
        self.reactor.release(key, &source);
        if let Source::Timer(_) | Source::Client(_) = *source {
            // It can be long until then.
            self.reactor.cancel_wakes(key);
        }
        match *source {
            Source::Connection(connection) => {
                self.desk.peer = connection.credentials();
                self.desk.note(EventKind::Closed);
                connection.note_lost(&mut self.desk);
                // A server that is stopping already ends by itself, and can be run again.
                if connection.stops_server() && self.stopping.is_none() {
                    self.remote.stop();
                }
                connection.stop_waiting(key);
                let (key, to) = (key.to_bits(), None);
                self.desk.mailbox.hang_up(&ReplyRoute { key, to });
                match connection.close(&self.desk) {
                    Some(leaving) => self.linger(leaving),
                    None => self.connections -= 1,
                }
            }
            Source::Leaving(leaving) => {
                self.connections -= 1;
                leaving.close(&self.desk);
            }
            Source::Datagrams(endpoint) => {
                self.desk.mailbox.hang_up_all(key.to_bits());
                self.desk.peer = None;
                self.desk
                    .note_lost(UndeliveredReason::BacklogFull, endpoint.waiting());
                endpoint.close(&self.desk);
            }
            Source::Listener(door) => door.close(&self.desk),
            Source::Watched(_) | Source::Timer(_) | Source::Client(_) => {}
        }
    }
}
