//! One-way calls.

use jsoncomm::Connection;

use crate::Outcome;
use crate::case::{At, Caller, Laps};
use crate::work::{NAME, Order, SIZES, Sum, USER, check_sum};

#[jsoncomm::service(name = "bench.notes")]
trait Notes {
    #[oneway]
    fn note(&mut self, number: u64, user: u32, name: &str, urgent: bool, sizes: [u32; 4]);
    fn sum(&mut self, number: u64, user: u32, name: &str, urgent: bool, sizes: [u32; 4]) -> u64;
}

impl Notes for Sum {
    fn note(&mut self, number: u64, user: u32, name: &str, urgent: bool, sizes: [u32; 4]) {
        self.add(&Order {
            number,
            user,
            name,
            urgent,
            sizes,
        });
    }

    fn sum(&mut self, number: u64, user: u32, name: &str, urgent: bool, sizes: [u32; 4]) -> u64 {
        self.note(number, user, name, urgent, sizes);
        self.take()
    }
}

pub(super) fn serve(at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
    let mut server = super::server(at)?;
    let endpoint = server.bind(&at.path, super::kind(at.wire))?;
    endpoint.serve::<dyn Notes>();
    ready()?;
    Ok(server.run(&mut Sum::default())?)
}

/// A client that makes so many one-way calls before each with an answer.
pub(super) struct Client {
    notes: NotesClient,
    round: usize,
}

impl Client {
    pub(super) fn new(connection: Connection, round: usize) -> Self {
        let notes = NotesClient::new(connection);
        Self { notes, round }
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let mut notes = 0;
        while let Some(number) = laps.issue() {
            let urgent = Order::new(number).urgent;
            if notes < self.round as u64 && !laps.is_last() {
                self.notes.note(number, USER, NAME, urgent, SIZES)?;
                notes += 1;
            } else {
                let sum = self.notes.sum(number, USER, NAME, urgent, SIZES)?;
                check_sum(notes + 1, sum)?;
                notes = 0;
            }
            laps.lap();
        }
        Ok(())
    }
}
