//! Services with ten methods each, as many as there should be, to see what a method costs that is one of many.

use jsoncomm::{CallError, Connection, Endpoint};

use super::Desk;
use crate::Outcome;
use crate::case::{Caller, Laps};

/// The name of a service, and what serves it.
type Service = (&'static str, fn(Endpoint<'_, Desk>) -> Endpoint<'_, Desk>);

#[cfg(not(feature = "methods"))]
const SERVICES: &[Service] = &[];

#[cfg(feature = "methods")]
macro_rules! tens {
    ($($module:ident $name:tt,)*) => {
        $(
            mod $module {
                #[jsoncomm::service(name = $name)]
                pub(super) trait Ten {
                    fn m0(&mut self, number: u64) -> u64;
                    fn m1(&mut self, number: u64) -> u64;
                    fn m2(&mut self, number: u64) -> u64;
                    fn m3(&mut self, number: u64) -> u64;
                    fn m4(&mut self, number: u64) -> u64;
                    fn m5(&mut self, number: u64) -> u64;
                    fn m6(&mut self, number: u64) -> u64;
                    fn m7(&mut self, number: u64) -> u64;
                    fn m8(&mut self, number: u64) -> u64;
                    fn m9(&mut self, number: u64) -> u64;
                }

                impl Ten for super::Desk {
                    fn m0(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m1(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m2(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m3(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m4(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m5(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m6(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m7(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m8(&mut self, number: u64) -> u64 {
                        number
                    }

                    fn m9(&mut self, number: u64) -> u64 {
                        number.wrapping_add(1)
                    }
                }
            }
        )*

        const SERVICES: &[Service] = &[
            $(($name, |endpoint| endpoint.serve::<dyn $module::Ten>()),)*
        ];
    };
}

#[cfg(feature = "methods")]
tens! {
    t00 "bench.t00", t01 "bench.t01", t02 "bench.t02", t03 "bench.t03", t04 "bench.t04",
    t05 "bench.t05", t06 "bench.t06", t07 "bench.t07", t08 "bench.t08", t09 "bench.t09",
    t10 "bench.t10", t11 "bench.t11", t12 "bench.t12", t13 "bench.t13", t14 "bench.t14",
    t15 "bench.t15", t16 "bench.t16", t17 "bench.t17", t18 "bench.t18", t19 "bench.t19",
    t20 "bench.t20", t21 "bench.t21", t22 "bench.t22", t23 "bench.t23", t24 "bench.t24",
    t25 "bench.t25", t26 "bench.t26", t27 "bench.t27", t28 "bench.t28", t29 "bench.t29",
    t30 "bench.t30", t31 "bench.t31", t32 "bench.t32", t33 "bench.t33", t34 "bench.t34",
    t35 "bench.t35", t36 "bench.t36", t37 "bench.t37", t38 "bench.t38", t39 "bench.t39",
    t40 "bench.t40", t41 "bench.t41", t42 "bench.t42", t43 "bench.t43", t44 "bench.t44",
    t45 "bench.t45", t46 "bench.t46", t47 "bench.t47", t48 "bench.t48", t49 "bench.t49",
}

/// Serves so many methods.
pub(super) fn serve(endpoint: Endpoint<'_, Desk>, methods: usize) {
    let services = SERVICES.iter().take(methods.div_ceil(10));
    services.fold(endpoint, |endpoint, (_, serve)| serve(endpoint));
}

/// The last of so many methods.
pub(super) fn last(methods: usize) -> String {
    let service = SERVICES.get(methods.div_ceil(10).saturating_sub(1));
    format!("{}.m9", service.map_or("", |(name, _)| name))
}

/// Calls one method.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) method: String,
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            let answer: Result<u64, CallError> = self.connection.call(&self.method, &(number,));
            if answer? != number.wrapping_add(1) {
                return Err(format!("wrong answer to {number}").into());
            }
            laps.lap();
        }
        Ok(())
    }
}
