//! Types that only serde knows, described by `schemars`.

use super::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How big.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Words(String),
}

/// A tree of sizes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Grove {
    sizes: Vec<Size>,
    groves: Vec<Grove>,
}

#[derive(Debug, Message, Serialize, Deserialize, JsonSchema)]
#[message(serde, schema)]
#[serde(tag = "kind")]
enum Report {
    Good { size: Size },
    Bad,
}

#[derive(Debug, Message)]
#[message(schema)]
struct Measured {
    /// As it was found.
    size: Size,
    line: Line,
    #[fd]
    file: OwnedFd,
}

mod ours {
    #[derive(Debug, jsoncomm::Message)]
    pub(super) struct Grove {
        pub(super) name: String,
    }
}

/// Measures.
#[jsoncomm::service(name = "test.scale", schema)]
trait Scale {
    fn measure(&mut self, least: Size, most: Option<Size>, all: &[Grove]) -> Report;
    fn open(&mut self, path: &str) -> Result<Measured, ours::Grove>;
    fn sizes(&mut self) -> Json<Vec<Size>>;
    fn whole(&mut self) -> Json<Grove>;
}

impl std::fmt::Display for ours::Grove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[test]
fn serde_types_are_described_by_schemars() {
    let document = document(<dyn Scale as Describe>::DESCRIPTION);
    let place = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let measure = method(&document, "test.scale.measure");
    assert_eq!(measure["params"][0]["schema"], place("Size"));
    let maybe = json!({"anyOf": [place("Size"), {"type": "null"}]});
    assert_eq!(measure["params"][1]["schema"], maybe);
    assert_eq!(measure["params"][1]["required"], false);
    let all = json!({"type": "array", "items": place("Grove")});
    assert_eq!(measure["params"][2]["schema"], all);
    assert_eq!(measure["result"]["schema"], place("Report"));
    let sizes = method(&document, "test.scale.sizes");
    assert_eq!(
        sizes["result"]["schema"],
        json!({"type": "array", "items": place("Size")})
    );
    let whole = method(&document, "test.scale.whole");
    assert_eq!(whole["result"]["schema"], place("Grove"));
    for size in [Size::Bytes(7), Size::Words("long".into())] {
        let grove = Grove {
            sizes: vec![size],
            groves: Vec::new(),
        };
        let grove = serde_json::to_value(Grove {
            sizes: Vec::new(),
            groves: vec![grove],
        })
        .unwrap();
        assert!(fits(&document, "Grove", &grove), "{grove}");
    }
    assert!(!fits(
        &document,
        "Grove",
        &json!({"sizes": [-1], "groves": []})
    ));
    let good = serde_json::to_value(Report::Good {
        size: Size::Bytes(1),
    })
    .unwrap();
    let bad = serde_json::to_value(Report::Bad).unwrap();
    assert!(fits(&document, "Report", &good) && fits(&document, "Report", &bad));
}

#[test]
fn a_message_is_described_by_its_own_shape() {
    let document = document(<dyn Scale as Describe>::DESCRIPTION);
    let open = method(&document, "test.scale.open");
    assert_eq!(
        open["result"]["schema"],
        json!({"$ref": "#/components/schemas/Measured"})
    );
    let members = &document["components"]["schemas"]["Measured"]["properties"];
    assert_eq!(members["file"]["x-file-descriptor"], true);
    let size = json!({"description": "As it was found.", "allOf": [{"$ref": "#/components/schemas/Size"}]});
    assert_eq!(members["size"], size);
    assert_eq!(
        members["line"],
        json!({"$ref": "#/components/schemas/Line"})
    );
    // Two types have this name.
    assert_eq!(open["errors"][0]["message"], "Grove");
    assert_eq!(
        open["errors"][0]["data"],
        json!({"$ref": "#/components/schemas/Grove2"})
    );
    assert!(fits(&document, "Grove2", &json!({"name": "a"})));
}

#[test]
fn a_schema_is_formatted_like_the_rest_of_the_document() {
    let text = <dyn Scale as Describe>::DESCRIPTION.open_rpc();
    let again = serde_json::from_str::<Value>(&text).unwrap();
    let lines = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(lines(&text), lines(&format!("{again:#}")));
}
