//! Replies that were posted, on their way out.

use super::source::SourceAction;
use super::{Server, Source};
use crate::observe::UndeliveredReason;
use crate::queue::{OutgoingReply, PostedReply};
use crate::reactor::Key;
use crate::service::ReplySink;

impl<S> Server<S> {
    /// Sends the replies that have been posted. Streams may go on as they are sent; each gets its share, and
    /// what is left is for the next turn.
    pub(super) fn send_posts(&mut self) {
        for _ in 0..self.desk.limits.messages_per_turn.max(1) {
            if !self.desk.mailbox.has_posts() {
                return;
            }
            self.send_posted();
        }
    }

    #[inline(never)]
    fn send_posted(&mut self) {
        let mut posts = std::mem::take(&mut self.posts);
        self.desk.mailbox.collect(&mut posts);
        self.deliver(posts.drain(..));
        self.posts = posts;
    }

    /// Sends replies. To those whose peer has gone meanwhile nothing happens.
    pub(super) fn deliver(&mut self, posts: impl IntoIterator<Item = PostedReply>) {
        for PostedReply {
            route,
            account,
            reply,
        } in posts
        {
            let key = Key::from_bits(route.key);
            let Some(mut source) = self.reactor.take(key) else {
                self.desk.peer = None;
                self.desk.note_lost(UndeliveredReason::Disconnected, 1);
                continue;
            };
            let mail = OutgoingReply::Queued(reply);
            let next = match &mut *source {
                Source::Datagrams(endpoint) => {
                    endpoint
                        .lane(route.to.as_ref(), &account)
                        .deliver(&mut self.desk, mail);
                    endpoint.next()
                }
                Source::Connection(connection) => {
                    connection.deliver(&mut self.desk, mail);
                    connection.next()
                }
                _ => SourceAction::Keep,
            };
            self.settle(key, source, next);
        }
    }
}
