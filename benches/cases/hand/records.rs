//! Records by hand: serde_json's own strings, owned at both ends.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::net::{self, Texts};
use super::{Client, answer};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load};
use crate::work::{check_null, record};

record!(Serialize, Deserialize);

const KEEP: &str = "bench.records.keep";
const ATTACH: &str = "bench.records.attach";

#[derive(Serialize, Deserialize)]
struct Keep<R> {
    record: R,
}

#[derive(Serialize, Deserialize)]
struct Attach<R> {
    record: R,
    file: usize,
}

pub(super) fn serve(at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
    match (at.load, at.load.size()) {
        (Load::RecordAndFile, _) => net::serve::<true>(at, ready, |text, fd, out| {
            let work = |Attach { record, file }: Attach<Record>| Attach {
                record: record.keep(),
                file,
            };
            answer(text, out, ATTACH, work)?;
            Ok(fd)
        }),
        (_, 0) => net::serve::<false>(at, ready, |text, _, out| keep(text, out)),
        _ => net::serve::<true>(at, ready, |text, _, out| keep(text, out)),
    }
}

#[inline]
fn keep(text: &[u8], out: &mut Vec<u8>) -> Outcome<Option<OwnedFd>> {
    let work = |Keep { record }: Keep<Record>| record.keep();
    answer(text, out, KEEP, work)?;
    Ok(None)
}

/// A client that has a record and sends it with new numbers.
pub(super) struct Records {
    client: Client,
    record: Record,
}

impl Records {
    pub(super) fn new(client: Client) -> Self {
        let record = Record::new(client.load.size());
        Self { client, record }
    }

    #[inline]
    fn keep<const FDS: bool>(&mut self) -> Outcome<Record> {
        let record = &self.record;
        self.client.send(KEEP, Keep { record })?;
        let (came, _) = self.client.receive::<FDS, Record>(self.client.id)?;
        Ok(came)
    }

    #[inline]
    fn attach(&mut self) -> Outcome<Record> {
        let record = &self.record;
        self.client.send(ATTACH, Attach { record, file: 0 })?;
        let (came, fd) = self
            .client
            .receive::<true, Attach<Record>>(self.client.id)?;
        let fd = fd.filter(|_| came.file == 0).ok_or("no descriptor")?;
        check_null(self.record.number, fd.as_fd())?;
        Ok(came.record)
    }
}

impl Caller for Records {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            self.record.renumber(number);
            let came = match (self.client.load, self.client.load.size()) {
                (Load::RecordAndFile, _) => self.attach()?,
                (_, 0) => self.keep::<false>()?,
                _ => self.keep::<true>()?,
            };
            came.check(&self.record)?;
            laps.lap();
        }
        Ok(())
    }
}

/// Makes so many calls with both ends in one thread.
pub(super) fn turn(client: Client, server: &OwnedFd, texts: &mut Texts, count: u64) -> Outcome {
    let Records {
        mut client,
        mut record,
    } = Records::new(client);
    for number in 0..count {
        record.renumber(number);
        client.send(KEEP, Keep { record: &record })?;
        let (came, text, out) = texts.receive::<false>(server, RecvFlags::DONTWAIT)?;
        keep(text, out)?;
        texts.send(server, None, came.from.as_ref())?;
        let (answer, _) = client.receive::<false, Record>(client.id)?;
        answer.check(&record)?;
    }
    Ok(())
}
