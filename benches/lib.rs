//! What calls cost: beside the kernel's own price, beside what is written by hand, beside other libraries.
//!
//! `main.rs` and `counting.rs` are the programs; README.md says how to run them and what each row is.

mod calls;
mod case;
mod cases;
mod counts;
mod idle;
mod instructions;
mod plot;
mod process;
mod role;
mod rounds;
mod scaling;
mod size;
mod table;
mod work;

use std::error::Error;

/// What can go wrong is printed and ends the program.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Does what the command line says. `allocations` tells how often the program has allocated, where that is counted.
///
/// # Errors
///
/// A command line that makes no sense, whatever the kernel refuses, and an answer that is wrong.
pub fn run(allocations: Option<fn() -> usize>) -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let command = match words.first() {
        Some(word) if !word.starts_with('-') => words.remove(0),
        _ => "calls",
    };
    match command {
        "serve" => role::serve(&words, allocations)?,
        "call" => role::call(&words, allocations)?,
        "calls" => calls::main(&words)?,
        "allocations" => calls::allocations(&words)?,
        "idle" => idle::main()?,
        "size" => size::main(&words)?,
        "scaling" => scaling::main(&words)?,
        "instructions" => instructions::main()?,
        "turns" => instructions::turns(&words)?,
        "syscalls" => calls::system_calls(&words)?,
        _ => return Err(format!("no such command: {command}; see benches/README.md").into()),
    }
    Ok(())
}
