//! The benchmarks of `main.rs` with a counting allocator. It is slower, so times are never taken with it.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> jsoncomm_benches::Outcome {
    jsoncomm_benches::run(Some(|| {
        let stats = COUNTED.stats();
        stats.allocations + stats.reallocations
    }))
}
