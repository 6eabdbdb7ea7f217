//! Replies that were posted, on their way to their sockets.

use super::source::SourceAction;
use super::{Server, Source};
use crate::observe::UndeliveredReason;
use crate::queue::{OutgoingReply, PostedReply};
use crate::reactor::Key;
use crate::service::ReplySink;

impl<S> Server<S> {
    /// Sends the replies that have been posted. A stream may post its next item when one is sent; each gets its share of
    /// the turn, and what is left is sent in the next.
    pub(super) fn send_posts(&mut self) {
        for _ in 0..self.context.limits.messages_per_turn.max(1) {
            if !self.context.pending.has_posts() {
                return;
            }
            self.send_posted();
        }
    }

    #[inline(never)]
    fn send_posted(&mut self) {
        let mut posts = std::mem::take(&mut self.context.posts);
        self.context.pending.collect(&mut posts);
        self.deliver(posts.drain(..));
        self.context.posts = posts;
    }

    /// Sends replies. Counts those whose socket is gone.
    pub(super) fn deliver(&mut self, posts: impl IntoIterator<Item = PostedReply>) {
        for post in posts {
            let key = Key::from_bits(post.route.key);
            let Some(mut source) = self.reactor.take(key) else {
                self.context
                    .note_lost(None, UndeliveredReason::Disconnected, 1);
                continue;
            };
            let reply = OutgoingReply::Queued(post.reply);
            let action = match &mut *source {
                Source::Datagrams(endpoint) => {
                    let to = post.route.to.as_ref();
                    let mut writer = endpoint.sender.writer(to, &post.account, None);
                    writer.deliver(&mut self.context, reply);
                    SourceAction::Keep(endpoint.set_timer())
                }
                Source::Connection(connection) => {
                    connection.writer.deliver(&mut self.context, reply);
                    connection.writer.next()
                }
                _ => SourceAction::Keep(None),
            };
            self.apply(key, source, action);
        }
    }
}
