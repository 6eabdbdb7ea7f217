//! What a method adds to a program and to its build, where a service has many.

use std::fmt::Write as _;

use super::{Package, kib};
use crate::Outcome;
use crate::table::Table;

/// The methods of the large service.
const METHODS: usize = 50;

/// How often each build is timed; the shortest counts.
const BUILDS: usize = 3;

/// The arguments of methods, what they return and how they make it. The methods have them in turn.
const SIGNATURES: [[&str; 3]; 5] = [
    [
        "a: u64, b: u64, c: u64",
        "u64",
        "a.wrapping_add(b).wrapping_add(c)",
    ],
    [
        "a: u32, b: String, c: bool",
        "String",
        "if c { b } else { a.to_string() }",
    ],
    [
        "a: String, b: Vec<u32>, c: u8",
        "usize",
        "a.len() + b.len() + usize::from(c)",
    ],
    [
        "a: i64, b: f64, c: Option<String>",
        "Option<String>",
        "c.filter(|_| b > a as f64)",
    ],
    [
        "a: Vec<String>, b: u16, c: i32",
        "Vec<String>",
        "if i32::from(b) < c { a } else { Vec::new() }",
    ],
];

/// Builds a service of one method and one of many. Of both, the program alone is timed: what it depends on is built
/// before.
pub(super) fn table() -> Outcome<Table> {
    let head = [
        "methods",
        "stripped KiB",
        "build of the program, CPU s",
        "KiB a method more",
        "CPU s a method more",
    ];
    let mut table = Table::new(&head);
    let package = Package::new(&program(1))?;
    package.build("release")?;
    let mut one = None;
    for methods in [1, METHODS] {
        let mut cpu = f64::INFINITY;
        for _ in 0..BUILDS {
            package.write(&program(methods))?;
            cpu = cpu.min(package.build("release")?);
        }
        let size = package.size("release")?;
        let mut line = vec![methods.to_string(), kib(size), format!("{cpu:.2}")];
        if let Some((less, faster)) = one {
            let more = (methods - 1) as f64;
            let bytes = size as f64 - less as f64;
            line.push(format!("{:.1}", bytes / 1024.0 / more));
            line.push(format!("{:.3}", (cpu - faster) / more));
        } else {
            line.extend([String::new(), String::new()]);
        }
        one.get_or_insert((size, cpu));
        table.push(line);
    }
    Ok(table)
}

/// A server of so many methods.
fn program(methods: usize) -> String {
    let (mut service, mut handler) = (String::new(), String::new());
    for (number, [arguments, returned, body]) in SIGNATURES.iter().cycle().take(methods).enumerate()
    {
        let method = format!("fn method_{number}(&mut self, {arguments}) -> {returned}");
        let _ = writeln!(service, "    {method};");
        let _ = writeln!(handler, "    {method} {{ {body} }}");
    }
    format!(
        r#"//! jsoncomm = {{ path = "JSONCOMM" }}

use jsoncomm::{{Kind, Limits, Server}};

#[jsoncomm::service(name = "bench.methods")]
trait Methods {{
{service}}}

struct Desk;

impl Methods for Desk {{
{handler}}}

fn main() -> Result<(), Box<dyn std::error::Error>> {{
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let mut server = Server::new(Limits::default())?;
    server.bind(path.as_str(), Kind::Seqpacket)?.serve::<dyn Methods>();
    server.run(&mut Desk)?;
    Ok(())
}}
"#
    )
}
