//! A peer in Python, by hand, with nothing but its standard library.

use std::process::Command;

use crate::Outcome;
use crate::case::{At, Caller, Load, Peer, Wire};

pub(super) struct Python;

impl Peer for Python {
    fn name(&self) -> &'static str {
        "Python, by hand"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        let loads = matches!(
            load,
            Load::Small | Load::Window(..=128) | Load::Descriptor | Load::Text(..=1_048_576)
        );
        let version = || Command::new("python3").arg("--version").output();
        wire != Wire::Stream && loads && version().is_ok_and(|output| output.status.success())
    }

    fn program(&self) -> Option<Vec<String>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/python.py");
        Some(vec!["python3".into(), script.into()])
    }

    fn serve(&self, _: &At, _: &dyn Fn() -> Outcome) -> Outcome {
        Err("this is another program".into())
    }

    fn connect(&self, _: &At) -> Outcome<Box<dyn Caller>> {
        Err("this is another program".into())
    }
}
