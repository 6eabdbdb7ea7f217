//! The work that every peer does, so that the rows can be compared: the same values each way, and the same check.

use std::os::fd::BorrowedFd;

use rustix::fs::{fstat, stat};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// A name as people have, in [`Order`].
pub(crate) const NAME: &str = "a name of twenty-six bytes";
/// The list in [`Order`].
pub(crate) const SIZES: [u32; 4] = [10, 200, 3000, 40_000];
/// The user in [`Order`].
pub(crate) const USER: u32 = 1000;

/// What a small call carries: 103 bytes of JSON and more as its number grows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Order<'a> {
    pub(crate) number: u64,
    pub(crate) user: u32,
    pub(crate) name: &'a str,
    pub(crate) urgent: bool,
    pub(crate) sizes: [u32; 4],
}

impl Order<'static> {
    /// The order of this number.
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            user: USER,
            name: NAME,
            urgent: number % 2 == 0,
            sizes: SIZES,
        }
    }
}

/// What a small answer carries: about as much, without a string, so that no side has to allocate one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, jsoncomm::Message)]
pub(crate) struct Receipt {
    pub(crate) number: u64,
    pub(crate) user: u32,
    pub(crate) length: u32,
    pub(crate) urgent: bool,
    pub(crate) total: u64,
    pub(crate) sizes: [u32; 4],
}

/// What the server does.
pub(crate) fn receipt(order: &Order<'_>) -> Receipt {
    let total: u64 = order.sizes.iter().copied().map(u64::from).sum();
    Receipt {
        number: order.number.wrapping_add(1),
        user: order.user,
        length: u32::try_from(order.name.len()).unwrap_or(u32::MAX),
        urgent: !order.urgent,
        total,
        sizes: order.sizes,
    }
}

impl Receipt {
    /// Whether this is the answer to that order.
    pub(crate) fn check(&self, number: u64) -> Outcome {
        if *self == receipt(&Order::new(number)) {
            Ok(())
        } else {
            Err(format!("wrong answer to {number}: {self:?}").into())
        }
    }
}

/// What the server of one-way calls adds up, so that the reply that follows them shows that each has been handled.
#[derive(Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds an order.
    pub(crate) fn add(&mut self, order: &Order<'_>) {
        self.0 += receipt(order).total;
    }

    /// The sum, which starts anew.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }
}

/// Whether this is the sum of so many orders.
pub(crate) fn check_sum(orders: u64, came: u64) -> Outcome {
    if came == orders * receipt(&Order::new(0)).total {
        Ok(())
    } else {
        Err(format!("the sum of {orders} orders came as {came}").into())
    }
}

/// The labels of a [`Record`].
pub(crate) const LABELS: [&str; 3] = ["urgent", "goods in transit", "to be weighed"];

/// The weight of the record of this number: every other one has one.
pub(crate) fn weight(number: u64) -> Option<f64> {
    (number % 2 == 0).then_some(number as f64 / 8.0)
}

/// What a call and its answer carry where both ends own what they get: 112 bytes of JSON and more as its number grows. Each
/// way to call has a type of its own, with the derives that it needs.
macro_rules! record {
    ($($derive:path),*) => {
        #[derive(Debug, PartialEq, $($derive),*)]
        pub(crate) struct Record {
            pub(crate) number: u64,
            pub(crate) text: String,
            pub(crate) labels: Vec<String>,
            pub(crate) weight: Option<f64>,
        }

        impl Record {
            /// A record for a load, whose text has so many bytes or, if that is 0, is a name.
            pub(crate) fn new(size: usize) -> Self {
                let text = match size {
                    0 => $crate::work::NAME.to_owned(),
                    _ => $crate::work::text(size),
                };
                Self {
                    number: 0,
                    text,
                    labels: $crate::work::LABELS.map(str::to_owned).into(),
                    weight: None,
                }
            }

            /// Makes it the record of this number. Every other one has a weight.
            pub(crate) fn renumber(&mut self, number: u64) {
                self.number = number;
                self.weight = $crate::work::weight(number);
            }

            /// What the server does: numbers it anew.
            pub(crate) fn keep(mut self) -> Self {
                self.number = self.number.wrapping_add(1);
                self
            }

            /// Whether this is the answer to that record.
            pub(crate) fn check(&self, sent: &Self) -> $crate::Outcome {
                let is_kept = self.number == sent.number.wrapping_add(1)
                    && self.text == sent.text
                    && self.labels == sent.labels
                    && self.weight == sent.weight;
                if is_kept {
                    Ok(())
                } else {
                    Err(format!("wrong answer to record {}", sent.number).into())
                }
            }
        }
    };
}
pub(crate) use record;

/// A text of so many bytes with nothing in it that JSON escapes.
pub(crate) fn text(size: usize) -> String {
    "The quick brown fox jumps over the lazy dog; "
        .chars()
        .cycle()
        .take(size)
        .collect()
}

/// Whether a text came back as it was sent.
pub(crate) fn check_text(sent: &str, came: &str) -> Outcome {
    if sent == came {
        Ok(())
    } else {
        Err(format!("{} bytes came back as {}", sent.len(), came.len()).into())
    }
}

/// Whether a name and a list came back as they were sent.
pub(crate) fn check_named(number: u64, came: u64, name: &str, sizes: &[u32]) -> Outcome {
    if (came, name, sizes) == (number, NAME, &SIZES[..]) {
        Ok(())
    } else {
        Err(format!("wrong answer to {number}").into())
    }
}

/// Whether a descriptor is the one of `/dev/null` that was sent. That takes a system call, so not each is looked at.
pub(crate) fn check_null(number: u64, fd: BorrowedFd<'_>) -> Outcome {
    if number % 1024 == 1 && fstat(fd)?.st_rdev != stat("/dev/null")?.st_rdev {
        return Err("another descriptor came back".into());
    }
    Ok(())
}
