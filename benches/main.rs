//! Measures calls; see README.md.

fn main() -> jsoncomm_benches::Outcome {
    jsoncomm_benches::run(None)
}
