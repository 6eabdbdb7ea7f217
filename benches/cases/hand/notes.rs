//! One-way calls by hand: a datagram for each.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::net;
use super::{Answer, Client, VERSION};
use crate::Outcome;
use crate::case::{At, Caller, Laps};
use crate::work::{Order, Sum, check_sum};

const NOTE: &str = "bench.notes.note";
const SUM: &str = "bench.notes.sum";

/// A call of either method. Those of `note` have no id.
#[derive(Serialize, Deserialize)]
struct Call<'a> {
    jsonrpc: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    params: Order<'a>,
}

pub(super) fn serve(at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
    let mut sum = Sum::default();
    net::serve::<false>(at, ready, |text, _, out| {
        let call: Call<'_> = serde_json::from_slice(text)?;
        sum.add(&call.params);
        match (call.method, call.id) {
            (NOTE, None) => {}
            (SUM, Some(id)) => {
                let answer = Answer {
                    jsonrpc: VERSION,
                    id,
                    result: sum.take(),
                };
                serde_json::to_writer(out, &answer)?;
            }
            _ => return Err("no such method".into()),
        }
        Ok(None)
    })
}

/// A client that makes so many one-way calls before each with an answer.
pub(super) struct Notes {
    pub(super) client: Client,
    pub(super) round: usize,
}

impl Notes {
    #[inline]
    fn note(&mut self, number: u64) -> Outcome {
        let call = Call {
            jsonrpc: VERSION,
            id: None,
            method: NOTE,
            params: Order::new(number),
        };
        let none: Option<BorrowedFd<'_>> = None;
        let texts = &mut self.client.texts;
        texts.out.clear();
        serde_json::to_writer(&mut texts.out, &call)?;
        Ok(texts.send(&self.client.socket, none, None)?)
    }

    #[inline]
    fn sum(&mut self, number: u64) -> Outcome<u64> {
        self.client.send(SUM, Order::new(number))?;
        let (sum, _) = self.client.receive::<false, u64>(self.client.id)?;
        Ok(sum)
    }
}

impl Caller for Notes {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let mut notes = 0;
        while let Some(number) = laps.issue() {
            if notes < self.round as u64 && !laps.is_last() {
                self.note(number)?;
                notes += 1;
            } else {
                check_sum(notes + 1, self.sum(number)?)?;
                notes = 0;
            }
            laps.lap();
        }
        Ok(())
    }
}
