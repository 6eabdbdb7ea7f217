//! Return types of methods: whatever a field may be.

use super::*;
use jsoncomm::describe::Describe;
use jsoncomm::describe::Shape;
use jsoncomm::message::Json;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CStr, CString, OsString};
use std::num::{Saturating, Wrapping};
use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

/// A type that implements only serde's traits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Uuid(u128);

#[derive(Debug, Clone, PartialEq, Message)]
struct Point {
    x: i8,
}

#[derive(Debug, Message, thiserror::Error, PartialEq)]
#[error("no")]
struct No {
    why: String,
}

/// Declares a service whose methods return their argument, and a struct of all of them. Calls and describes it.
macro_rules! returned {
    ($($method:ident: $ty:ty = $value:expr, $json:literal;)+) => {
        #[jsoncomm::service(name = "example.returns")]
        trait Returns {
            $(fn $method(&mut self) -> $ty;)+
        }

        struct Values;

        impl Returns for Values {
            $(fn $method(&mut self) -> $ty {
                $value
            })+
        }

        /// The types as arguments.
        #[jsoncomm::service(name = "example.takes")]
        trait Takes {
            $(fn $method(&mut self, value: $ty) -> String;)+
        }

        impl Takes for Values {
            $(fn $method(&mut self, value: $ty) -> String {
                format!("{value:?}")
            })+
        }

        $(
            /// The type as a field.
            #[allow(non_camel_case_types, reason = "called like the method")]
            #[derive(Debug, Message)]
            struct $method {
                value: $ty,
            }
        )+

        #[test]
        fn a_method_may_return_every_field_type() {
            let server = Running::start(Kind::Seqpacket, Values, |endpoint| {
                endpoint.serve::<dyn Returns>().serve::<dyn Takes>()
            });
            let (returns, takes) = (server.connect(), server.connect());
            let (returns, takes) = (ReturnsClient::new(returns), TakesClient::new(takes));
            $(
                let value = || -> $ty { $value };
                let expected = format!("{:?}", value());
                let returned = returns.$method().unwrap();
                assert_eq!(format!("{returned:?}"), expected, stringify!($method));
                assert_eq!(takes.$method(value()).unwrap(), expected, stringify!($method));
                let raw: jsoncomm::message::RawMessage = server
                    .connect()
                    .call::<_, std::convert::Infallible>(
                        concat!("example.returns.", stringify!($method)),
                        &Vec::<u8>::new(),
                    )
                    .unwrap();
                assert_eq!(raw.json, $json, stringify!($method));
                let mut text = Vec::new();
                let field = $method { value: value() };
                jsoncomm::message::encode(&field, &mut text, &Default::default()).unwrap();
                let expected = format!(r#"{{"value":{}}}"#, $json);
                assert_eq!(String::from_utf8(text).unwrap(), expected);
                let _ = field.value;
            )+
        }
    };
}

returned! {
    deque: VecDeque<Point> = VecDeque::from([Point { x: 1 }]), r#"[{"x":1}]"#;
    linked: LinkedList<u8> = LinkedList::from([1, 2]), "[1,2]";
    heap: BinaryHeap<u8> = BinaryHeap::from([7]), "[7]";
    set: BTreeSet<u8> = BTreeSet::from([1]), "[1]";
    hash_set: HashSet<String> = HashSet::from(["a".into()]), r#"["a"]"#;
    shared: Rc<Point> = Rc::new(Point { x: 1 }), r#"{"x":1}"#;
    shared_list: Rc<[u8]> = Rc::from([1]), "[1]";
    atomically: Arc<Point> = Arc::new(Point { x: 1 }), r#"{"x":1}"#;
    text: Arc<str> = Arc::from("a"), r#""a""#;
    path: Arc<Path> = Arc::from(Path::new("/a")), r#""/a""#;
    boxed: Box<[Point]> = Box::new([Point { x: 1 }]), r#"[{"x":1}]"#;
    boxed_text: Box<str> = Box::from("a"), r#""a""#;
    nested: Vec<Option<Arc<[Rc<str>]>>> = vec![None, Some(Arc::from([Rc::from("a")]))], r#"[null,["a"]]"#;
    nine: (u8, u8, u8, u8, u8, u8, u8, u8, Point) = (1, 2, 3, 4, 5, 6, 7, 8, Point { x: 9 }), r#"[1,2,3,4,5,6,7,8,{"x":9}]"#;
    twelve: (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8) = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), "[1,2,3,4,5,6,7,8,9,10,11,12]";
    range: Range<u8> = 1..5, r#"{"start":1,"end":5}"#;
    inclusive: RangeInclusive<i64> = -1..=5, r#"{"start":-1,"end":5}"#;
    from: RangeFrom<u8> = 1.., r#"{"start":1}"#;
    to: RangeTo<u8> = ..5, r#"{"end":5}"#;
    bound: Bound<u8> = Bound::Included(1), r#"{"Included":1}"#;
    unbounded: Bound<u8> = Bound::Unbounded, r#""Unbounded""#;
    maybe_ok: Option<Result<Point, No>> = Some(Ok(Point { x: 1 })), r#"{"Ok":{"x":1}}"#;
    maybe_not: Option<Result<Point, No>> = Some(Err(No { why: "x".into() })), r#"{"Err":{"why":"x"}}"#;
    some_failed: Vec<Result<u8, String>> = vec![Ok(1), Err("a".into())], r#"[{"Ok":1},{"Err":"a"}]"#;
    by_name: HashMap<String, Result<(), No>> = HashMap::from([("a".into(), Ok(()))]), r#"{"a":{"Ok":null}}"#;
    foreign: Json<Uuid> = Json(Uuid(u128::MAX)), "340282366920938463463374607431768211455";
    foreign_inside: Vec<(Point, Json<Uuid>)> = vec![(Point { x: 1 }, Json(Uuid(2)))], r#"[[{"x":1},2]]"#;
    wrapping: Wrapping<u8> = Wrapping(1), "1";
    saturating: Saturating<i64> = Saturating(1), "1";
    reverse: Reverse<u8> = Reverse(1), "1";
    cell: Cell<u8> = Cell::new(1), "1";
    ref_cell: RefCell<Vec<u8>> = RefCell::new(vec![1]), "[1]";
    mutex: Mutex<u8> = Mutex::new(1), "1";
    lock: RwLock<u8> = RwLock::new(1), "1";
    atomic: AtomicU64 = AtomicU64::new(1), "1";
    c_text: CString = c"a".into(), "[97]";
    c_box: Box<CStr> = Box::from(c"a"), "[97]";
    os_text: OsString = "a".into(), r#"{"Unix":[97]}"#;
}

#[test]
fn the_return_type_of_a_method_is_described() {
    let methods = <dyn Returns as Describe>::DESCRIPTION.methods();
    let unknown = methods.iter().filter(|method| {
        let shape = method.result().map(jsoncomm::describe::Type::shape);
        matches!(shape, None | Some(Shape::Anything(_)))
    });
    let unknown: Vec<_> = unknown.map(jsoncomm::describe::Method::name).collect();
    assert_eq!(unknown, ["foreign", "os_text"]);
}
