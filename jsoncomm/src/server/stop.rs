//! Stopping in order: what was asked is answered, and then everybody goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Server, Source};
use crate::envelope;
use crate::error::{Error, Fault};
use crate::queue::{PostedReply, QueuedReply};
use crate::reactor::{Key, Watch};

impl<S> Server<S> {
    /// Begins to stop. [`run`](Server::run) returns as soon as all that was asked is answered, after `grace` at the
    /// latest, whatever peers do.
    ///
    /// From now on no connections are taken and no paths are left for others to find; calls that come, or are
    /// waiting already, are refused with [`Fault::SHUTTING_DOWN`], except at a datagram socket that was
    /// [adopted](Server::adopt) and has a name: those stay there, for the server after this one. Deferred
    /// answers and streams go on, and so do timers and watches. After `grace` whoever still waits is told
    /// `STOPPING`. In the end all connections and datagram sockets are closed, and the server can be given new
    /// ones. A second call can only shorten the grace.
    ///
    /// [`ServerHandle::shut_down`](crate::server::ServerHandle::shut_down) does it from elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [timerfd_settime(2)] reports. The server is stopping all the same.
    ///
    /// [timerfd_settime(2)]: https://man7.org/linux/man-pages/man2/timerfd_settime.2.html
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/shut_down.md")]
    pub fn shut_down(&mut self, grace: Duration) -> Result<(), Error> {
        /// A time so far off that nobody will see it.
        const FAR: Duration = Duration::from_secs(1 << 33);
        self.check_process()?;
        let end = Instant::now() + grace.min(FAR);
        let end = self.stopping.map_or(end, |earlier| end.min(earlier));
        let begun = self.stopping.replace(end).is_some();
        self.desk.stopping = true;
        self.reactor.end_wait_at(end);
        // Who has been waiting gets an answer, too: everybody is looked at once more.
        let keys = if begun {
            Vec::new()
        } else {
            self.reactor.keys()
        };
        keys.into_iter().for_each(|key| self.retire(key));
        // Perhaps there is nothing left that would.
        self.desk.mailbox.wake();
        self.reactor.arm()
    }

    /// Has a source come to its end.
    fn retire(&mut self, key: Key) {
        let Some(mut source) = self.reactor.take(key) else {
            return;
        };
        if let Source::Listener(_) = *source {
            return self.close(key, source);
        }
        match &mut *source {
            Source::Datagrams(endpoint) => {
                endpoint.retire();
                self.reactor.rearm(key, &source, Watch::Reading);
            }
            // One with answers waiting is watched for room, and read from once they have gone.
            Source::Connection(connection) if connection.waiting() == 0 => {
                self.reactor.rearm(key, &source, Watch::Reading);
            }
            _ => {}
        }
        self.reactor.put(key, source);
    }

    /// Ends it if it is stopping and nothing is left to do, or no time. Says whether it has ended.
    pub(super) fn end_if_stopping(&mut self, idle: bool) -> bool {
        let Some(end) = self.stopping else {
            return false;
        };
        let busy = self.is_busy();
        if Instant::now() < end && (busy || !idle) {
            if !busy {
                // Once more, to see whether somebody has sent something meanwhile.
                self.desk.mailbox.wake();
            }
            return false;
        }
        self.cut();
        self.stopping = None;
        self.desk.stopping = false;
        true
    }

    /// Says whether answers are still to be given or sent.
    fn is_busy(&self) -> bool {
        self.desk.mailbox.is_busy() || self.waiting() > 0
    }

    /// Tells whoever still waits, and closes all that peers have a part in.
    fn cut(&mut self) {
        let given_up = self.desk.mailbox.cancel_all();
        // What has been answered in this moment.
        self.send_posts();
        let fault = Fault::new(Fault::SHUTTING_DOWN, "the server has stopped");
        let posts = given_up.into_iter().filter_map(|(route, id)| {
            let mut text = Vec::new();
            envelope::write_fault(&mut text, Some(&id?), &fault);
            Some(PostedReply {
                route,
                account: Arc::default(),
                reply: QueuedReply::from(text),
            })
        });
        self.deliver(posts);
        for key in self.reactor.keys() {
            let Some(source) = self.reactor.take(key) else {
                continue;
            };
            match *source {
                Source::Datagrams(_) | Source::Connection(_) | Source::Leaving(_) => {
                    self.close(key, source);
                }
                _ => self.reactor.put(key, source),
            }
        }
    }
}
