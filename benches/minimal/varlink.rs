//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! varlink = "13"

use std::io::BufRead;

use varlink::{Call, CallTrait, Interface, ListenConfig, Reply, VarlinkService};

#[derive(serde::Deserialize)]
struct Add {
    a: u64,
    b: u64,
}

struct Desk;

impl Interface for Desk {
    fn get_description(&self) -> &'static str {
        "interface bench.adder\nmethod Add(a: int, b: int) -> (sum: int)\n"
    }

    fn get_name(&self) -> &'static str {
        "bench.adder"
    }

    fn call_upgraded(&self, _: &mut Call<'_>, _: &mut dyn BufRead) -> varlink::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn call(&self, call: &mut Call<'_>) -> varlink::Result<()> {
        let parameters = call.request.and_then(|request| request.parameters.clone());
        match serde_json::from_value::<Add>(parameters.unwrap_or_default()) {
            Ok(add) => {
                let sum = serde_json::json!({ "sum": add.a.wrapping_add(add.b) });
                call.reply_struct(Reply::parameters(Some(sum)))
            }
            Err(error) => call.reply_invalid_parameter(error.to_string()),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let interfaces: Vec<Box<dyn Interface + Send + Sync>> = vec![Box::new(Desk)];
    let service = VarlinkService::new("bench", "adder", "1", "bench.adder", interfaces);
    varlink::listen(service, &format!("unix:{path}"), &ListenConfig::default())?;
    Ok(())
}
