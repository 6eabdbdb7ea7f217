//! Batches: how many calls one may have, and how long the arrays of replies are.

use super::*;

/// Returns the text of a batch.
fn batch(elements: impl IntoIterator<Item = String>) -> String {
    let elements: Vec<_> = elements.into_iter().collect();
    format!("[{}]", elements.join(","))
}

/// Returns the lengths of the next messages: of each reply in an array, or of a reply that travels alone.
fn arrays(client: &mut Socket, messages: usize) -> Vec<Result<Vec<usize>, usize>> {
    let length = |reply: &Value| serde_json::to_vec(reply).unwrap().len();
    let mut lengths = || match receive(client) {
        Value::Array(array) => Ok(array.iter().map(length).collect()),
        reply => Err(length(&reply)),
    };
    (0..messages).map(|_| lengths()).collect()
}

/// Sends a batch that is replied to with texts of these lengths, and returns what [`arrays`] does.
fn make(client: &mut Socket, lengths: &[usize], messages: usize) -> Vec<Result<Vec<usize>, usize>> {
    let around = r#"{"jsonrpc":"2.0","id":5,"result":""}"#.len();
    let make = |length: &usize| call(5, "limits.make", &format!("[{}]", length - around));
    let text = batch(lengths.iter().map(make));
    send_raw(&*client, text.as_bytes(), &[]).unwrap();
    arrays(client, messages)
}

#[test]
fn a_batch_has_up_to_the_limit_of_calls_and_is_refused_above() {
    alone!();
    assert_eq!(Limits::default().batch, 64);
    for kind in KINDS {
        for limit in [0, 1, 3, 64] {
            let mut limits = Limits::default();
            (limits.batch, limits.messages_per_turn) = (limit, 1000);
            let server = serve(kind, limits);
            let mut client = raw(&server, kind);
            for count in [limit.saturating_sub(1), limit, limit + 1, 2 * limit + 2] {
                let calls = (0..count).map(|id| call(id as u64, "limits.make", "[1]"));
                let reply = ask(&mut client, &batch(calls));
                if count > 0 && count <= limit {
                    assert_eq!(reply.as_array().map(Vec::len), Some(count));
                } else {
                    assert_eq!(reply["id"], Value::Null, "{count} of {limit}");
                    assert_eq!(reply["error"]["code"], Fault::INVALID_REQUEST);
                }
            }
            server.stop();
        }
    }
}

#[test]
fn replies_to_a_batch_are_sent_in_arrays_up_to_the_limit_of_a_message() {
    alone!();
    const INLINE: usize = 1 << 16;
    for kind in KINDS {
        // With the second, an array is as long as travels in a datagram itself.
        for (message, longest) in [(1000, 1000), (Limits::default().message, INLINE)] {
            let mut limits = Limits::default();
            limits.message = message;
            let server = serve(kind, limits);
            let mut client = raw(&server, kind);
            // Two brackets and a comma.
            let first = 300;
            let second = longest - 3 - first;
            for length in [second - 1, second] {
                let made = make(&mut client, &[first, length], 1);
                assert_eq!(made, [Ok(vec![first, length])]);
            }
            let two = [Ok(vec![first]), Ok(vec![second + 1])];
            assert_eq!(make(&mut client, &[first, second + 1], 2), two);
            for alone in [longest - 3, longest - 2] {
                assert_eq!(make(&mut client, &[alone], 1), [Ok(vec![alone])]);
            }
            for alone in [longest - 1, longest] {
                let made = make(&mut client, &[first, alone, first], 2);
                assert_eq!(made, [Err(alone), Ok(vec![first, first])]);
            }
            for alone in [message - 1, message] {
                assert_eq!(make(&mut client, &[alone], 1), [Err(alone)]);
            }
            let text = batch([1, message].map(|size| call(5, "limits.make", &format!("[{size}]"))));
            let reply = ask(&mut client, &text);
            assert_eq!(reply[1]["error"]["code"], Fault::REPLY_TOO_LARGE);
            server.stop();
        }
    }
}

#[test]
fn deferred_calls_of_a_batch_are_limited_like_others() {
    alone!();
    for kind in KINDS {
        for calls in [2, 3, 4] {
            let mut limits = Limits::default();
            limits.deferred = 3;
            let server = serve(kind, limits);
            let mut client = raw(&server, kind);
            let keep = (0..calls).map(|id| call(id, "kept.keep", "{}"));
            let echo = call(9, "limits.make", "[1]");
            let reply = ask(&mut client, &batch(keep.chain([echo])));
            let replies = reply.as_array().unwrap();
            assert_eq!(replies.len() as u64, 1 + calls.saturating_sub(3));
            if calls > 3 {
                assert_eq!(replies[0]["error"]["code"], Fault::BUSY);
            }
            drop(client);
            drop(server.stop().0.kept);
        }
    }
}
