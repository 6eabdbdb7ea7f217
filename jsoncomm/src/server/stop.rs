//! Graceful shutdown: calls that have arrived are finished, then all connections are closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::instant_after;
use super::source::SourceAction;
use super::{Server, Source};
use crate::error::{Error, Fault};
use crate::queue::{PostedReply, QueuedReply};
use crate::reactor::Key;

impl<S> Server<S> {
    /// Begins a graceful shutdown: [`run`](Server::run) returns as soon as all calls have their replies, and after `grace`
    /// at the latest, whatever peers do.
    ///
    /// | | until then | in the end |
    /// |---|---|---|
    /// | listening sockets | are closed now; their paths are removed | |
    /// | datagram sockets | their paths are removed; what has arrived is handled | are closed |
    /// | adopted datagram sockets with a name | nothing is received: it is left to the next server | are closed |
    /// | calls that arrive, or have not been read yet | get the fault [`Fault::SHUTTING_DOWN`] | |
    /// | calls that [wait to be allowed](crate::server::Verdict) | get the fault [`Fault::SHUTTING_DOWN`] | |
    /// | deferred calls and streams | continue | get the fault [`Fault::SHUTTING_DOWN`] |
    /// | connections | stay open | are closed |
    /// | timers and watches | continue | are kept |
    ///
    /// Afterwards the server can be given new sockets and run again. A second call can shorten `grace`, but not extend it.
    /// [`ServerHandle::shut_down`](crate::server::ServerHandle::shut_down) does this from another thread or a handler, and
    /// [`Control::shut_down`](crate::server::Control::shut_down) from a callback. A daemon that stops on signals
    /// [watches](Server::watch) a pipe that its signal handler writes to, such as one of `signal_hook::low_level::pipe`. The
    /// example `files` does.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [timerfd_settime(2)] reports. The server is shutting down all the same.
    ///
    /// [timerfd_settime(2)]: https://man7.org/linux/man-pages/man2/timerfd_settime.2.html
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/shut_down.md")]
    pub fn shut_down(&mut self, grace: Duration) -> Result<(), Error> {
        self.check_process()?;
        let end = instant_after(grace);
        let end = self.stopping.map_or(end, |earlier| end.min(earlier));
        let begun = self.stopping.replace(end).is_some();
        self.context.stopping = true;
        self.reactor.end_wait_at(end);
        if !begun {
            let keys = self.reactor.keys();
            keys.into_iter().for_each(|key| self.retire(key));
            self.stop_parking();
        }
        // So that the loop ends if there is nothing left to do.
        self.context.pending.wake();
        self.reactor.arm()
    }

    /// Closes a listening source, and has others looked at once more, so that calls which wait there are refused.
    fn retire(&mut self, key: Key) {
        self.act_on(key, |source| match source {
            Source::Listener(_) => SourceAction::Close,
            Source::Datagrams(endpoint) => {
                endpoint.retire();
                SourceAction::READ
            }
            // A connection with unsent replies is watched for room, and read from once they are sent.
            Source::Connection(connection) if connection.writer.queue.is_empty() => {
                SourceAction::READ
            }
            _ => SourceAction::Keep(None),
        });
    }

    /// Ends the shutdown, if there is one and either nothing is left to do or its time is over. Returns true if it has
    /// ended.
    #[inline(never)]
    pub(super) fn end_if_stopping(&mut self, idle: bool) -> bool {
        let Some(end) = self.stopping else {
            return false;
        };
        let busy = self.context.pending.is_busy() || self.waiting() > 0 || self.has_batch();
        if Instant::now() < end && (busy || !idle) {
            if !busy {
                // One more turn, in case something has arrived meanwhile.
                self.context.pending.wake();
            }
            return false;
        }
        self.disconnect_all();
        self.stopping = None;
        self.context.stopping = false;
        true
    }

    /// Ends all deferred calls, and closes all connections and datagram sockets.
    fn disconnect_all(&mut self) {
        self.cancel_deferred("the server has shut down");
        for key in self.reactor.keys() {
            self.act_on(key, |source| match source {
                Source::Datagrams(_) | Source::Connection(_) | Source::Lingering(_) => {
                    SourceAction::Close
                }
                _ => SourceAction::Keep(None),
            });
        }
    }

    /// Ends all deferred calls with a fault.
    pub(super) fn cancel_deferred(&mut self, reason: &str) {
        let given_up = self.context.pending.cancel_all();
        // Replies that another thread has just posted.
        self.send_posts();
        let fault = Fault::new(Fault::SHUTTING_DOWN, reason);
        let posts = given_up.into_iter().filter_map(|(route, id)| {
            Some(PostedReply {
                route,
                account: Arc::default(),
                reply: QueuedReply::fault(Some(&id?), &fault),
            })
        });
        self.deliver(posts);
    }
}
