//! Records that both ends own.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use jsoncomm::{Connection, Message};

use super::Desk;
use crate::Outcome;
use crate::case::{At, Caller, Laps};
use crate::work::{check_null, record};

record!(Message);

#[jsoncomm::service(name = "bench.records")]
pub(super) trait Records {
    fn keep(&mut self, record: Record) -> Record;
    fn attach(&mut self, record: Record, #[fd] file: OwnedFd) -> Attached;
}

#[derive(Debug, Message)]
pub(super) struct Attached {
    record: Record,
    #[fd]
    file: OwnedFd,
}

impl Records for Desk {
    fn keep(&mut self, record: Record) -> Record {
        record.keep()
    }

    fn attach(&mut self, record: Record, file: OwnedFd) -> Attached {
        Attached {
            record: record.keep(),
            file,
        }
    }
}

/// A client that has a record and sends it with new numbers.
pub(super) struct Client {
    records: RecordsClient,
    record: Record,
    /// What is passed, if anything is.
    null: Option<File>,
}

impl Client {
    pub(super) fn new(connection: Connection, at: &At) -> Outcome<Self> {
        Ok(Self {
            records: RecordsClient::new(connection),
            record: Record::new(at.load.size()),
            null: super::super::net::null(at)?,
        })
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            self.record.renumber(number);
            let came = match &self.null {
                None => self.records.keep(&self.record)?,
                Some(null) => {
                    let attached = self.records.attach(&self.record, null)?;
                    check_null(number, attached.file.as_fd())?;
                    attached.record
                }
            };
            came.check(&self.record)?;
            laps.lap();
        }
        Ok(())
    }
}
