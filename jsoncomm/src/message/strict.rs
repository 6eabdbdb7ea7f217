//! One text, one meaning: what readers of JSON disagree about is refused.
//!
//! [`Strict`] stands between serde_json and whatever is read. It refuses an object that repeats a key, where
//! serde would let the last one win, and strings that are no text. What a type skips is noticed and read
//! after the rest, by the same rules ([`check`]), so that a type without maps that knows all its members costs
//! nothing.

mod key;
mod object;

pub(crate) use object::repeated;
pub(super) use object::{MADE_UP, NUMBER};

use object::Object;
use serde::de::{DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess};
use serde::de::{VariantAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::cell::Cell;
use std::fmt;

/// serde_json's reader of text that is known to be UTF-8.
pub(super) type Reader<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

/// Reads a value with `read`, from a reader that stands at the front of `text`.
pub(super) fn read<'de, T>(
    reader: &mut Reader<'de>,
    text: &'de str,
    read: impl FnOnce(Strict<'_, &mut Reader<'de>>) -> Result<T, serde_json::Error>,
) -> Result<T, serde_json::Error> {
    let skipped = Cell::new(false);
    let value = read(Strict::new(reader, Some(&skipped)))?;
    if skipped.get() {
        check(text)?;
    }
    Ok(value)
}

/// Reads a value from the front of `text` by all rules, keeps nothing of it, and tells how many bytes it took.
pub(super) fn check(text: &str) -> Result<usize, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    IgnoredAny::deserialize(Strict::new(&mut reader, None))?;
    Ok(reader.into_iter::<IgnoredAny>().byte_offset())
}

/// A deserializer that refuses what has more than one meaning.
pub(super) struct Strict<'s, D> {
    from: D,
    skipped: Skipped<'s>,
}

/// What to set when something is skipped; without it nothing is.
type Skipped<'s> = Option<&'s Cell<bool>>;

impl<'s, D> Strict<'s, D> {
    fn new(from: D, skipped: Skipped<'s>) -> Self {
        Self { from, skipped }
    }
}

/// Forwards methods whose visitor gets a value and nothing to read from.
macro_rules! values {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.from.$method(visitor)
        }
    )*};
}

/// Forwards methods whose visitor reads on.
macro_rules! readers {
    ($($method:ident($($argument:ident: $of:ty),*) $keys:ident;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(
            self,
            $($argument: $of,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let on = On::<V, $keys>(visitor, self.skipped);
            self.from.$method($($argument,)* on)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    values! {
        deserialize_bool deserialize_char deserialize_str deserialize_string deserialize_unit
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_identifier
    }

    readers! {
        deserialize_any() ALL;
        deserialize_option() ALL;
        deserialize_unit_struct(name: &'static str) ALL;
        deserialize_newtype_struct(name: &'static str) ALL;
        deserialize_seq() ALL;
        deserialize_tuple(length: usize) ALL;
        deserialize_tuple_struct(name: &'static str, length: usize) ALL;
        deserialize_map() ALL;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) UNKNOWN;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) ALL;
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        match self.skipped {
            Some(skipped) => {
                skipped.set(true);
                self.from.deserialize_ignored_any(visitor)
            }
            None => self.deserialize_any(visitor),
        }
    }

    /// serde_json takes bytes from strings with bare control characters and lone surrogates in them, too.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.from.deserialize_any(Bytes(visitor, self.skipped))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.from.is_human_readable()
    }
}

/// Which keys of an object can be repeated unseen: all, where the reader makes a map.
const ALL: bool = true;
/// Those that it does not know, where it makes a struct.
const UNKNOWN: bool = false;

/// A visitor that reads on strictly.
struct On<'s, V, const KEYS: bool>(V, Skipped<'s>);

/// Forwards methods that get a value.
macro_rules! visits {
    ($($method:ident($($value:ident: $of:ty)?);)*) => {$(
        #[inline]
        fn $method<E: Error>(self $(, $value: $of)?) -> Result<V::Value, E> {
            self.0.$method($($value)?)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const KEYS: bool> Visitor<'de> for On<'_, V, KEYS> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visits! {
        visit_bool(value: bool);
        visit_i64(value: i64);
        visit_i128(value: i128);
        visit_u64(value: u64);
        visit_u128(value: u128);
        visit_f64(value: f64);
        visit_str(value: &str);
        visit_borrowed_str(value: &'de str);
        visit_string(value: String);
        visit_none();
        visit_unit();
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict::new(from, self.1))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict::new(from, self.1))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Within(from, self.1))
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        match KEYS {
            ALL => self.0.visit_map(Object::new(from, self.1)),
            UNKNOWN => self.0.visit_map(Within(from, self.1)),
        }
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Within(from, self.1))
    }
}

/// The visitor of bytes, which are a string's or an array's.
struct Bytes<'s, V>(V, Skipped<'s>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Bytes<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.0.visit_bytes(text.as_bytes())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Within(from, self.1))
    }
}

/// What a visitor reads on from, or the seed that it reads on with: with [`Strict`] in between.
struct Within<'s, T>(T, Skipped<'s>);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Within<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict::new(from, self.1))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Within(seed, self.1))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// The members of a struct: it refuses its own if they come twice, and the others are skipped.
impl<'de, A: MapAccess<'de>> MapAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Within(seed, self.1))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, 's, A: EnumAccess<'de>> EnumAccess<'de> for Within<'s, A> {
    type Error = A::Error;
    type Variant = Within<'s, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (variant, content) = self.0.variant_seed(Within(seed, self.1))?;
        Ok((variant, Within(content, self.1)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Within<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Within(seed, self.1))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let on = On::<V, ALL>(visitor, self.1);
        self.0.tuple_variant(length, on)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let on = On::<V, UNKNOWN>(visitor, self.1);
        self.0.struct_variant(fields, on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DecodeError;
    use crate::message::{Json, Surplus, decode};
    use serde::de::DeserializeOwned;
    use serde_json::Value;
    use std::collections::{BTreeMap, HashMap};
    use std::ffi::CString;
    use std::fmt::Debug;

    fn strict<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
        let read = decode::<Json<T>>(text.as_bytes(), crate::Fds::new(), Surplus::Refuse);
        read.map(|json| json.0).map_err(|error| error.to_string())
    }

    #[test]
    fn a_map_with_a_repeated_key_is_refused_and_the_key_named() {
        let repeated = |key: &str| Err(format!("key {key:?} is repeated"));
        let text = r#"{"a":1,"b":2,"c":3,"b":4}"#;
        assert_eq!(strict::<HashMap<String, u8>>(text).map(drop), repeated("b"));
        assert_eq!(strict::<BTreeMap<&str, u8>>(text).map(drop), repeated("b"));
        assert_eq!(strict::<Value>(text).map(drop), repeated("b"));
        assert_eq!(strict::<IgnoredAny>(text).map(drop), repeated("b"));
        for text in [r#"{"b":1,"\u0062":2}"#, r#"{"\u0062":1,"b":2}"#] {
            assert_eq!(strict::<Value>(text).map(drop), repeated("b"), "{text}");
        }
        let numbers = strict::<HashMap<u8, u8>>(r#"{"1":1,"2":2,"1":3}"#);
        assert_eq!(numbers.map(drop), repeated("1"));
        let long = "x".repeat(1000);
        let error = strict::<Value>(&format!(r#"{{"{long}":1,"{long}":2}}"#)).unwrap_err();
        assert!(error.len() < 500, "{error}");
    }

    #[test]
    fn each_object_has_keys_of_its_own() {
        let text = r#"[{"a":{"a":[{"a":1},{"a":2}],"b":{"a":3}},"b":{}},{"a":null}]"#;
        assert_eq!(
            strict(text),
            Ok(serde_json::from_str::<Value>(text).unwrap())
        );
        for text in [
            r#"[{},{"a":{"b":[{"x":1,"x":2}]}}]"#,
            r#"{"a":{"x":1},"b":[],"a":{"x":1}}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert!(strict::<Value>(text).is_err(), "{text}");
            assert!(strict::<IgnoredAny>(text).is_err(), "{text}");
        }
    }

    /// Where serde_json has a rule for keys, it is kept. It has none for an escaped digit, and cuts a
    /// character in two where it looks for `true`.
    #[test]
    fn keys_are_read_as_serde_json_reads_them() {
        fn same<K: DeserializeOwned + Ord + Debug>() {
            let wide = [u128::MAX.to_string(), i128::MIN.to_string()];
            let keys = "0 1 -1 01 +1 1.0 1e0 -0 - x \\n true false null 255 256 1e999 18446744073709551615 \
                        18446744073709551616 -9223372036854775808";
            let keys = keys.split(' ').chain(["", " 1", "1 "]);
            for key in keys.chain(wide.iter().map(|key| &**key)) {
                let text = format!(r#"{{"{key}":0}}"#);
                let read: Option<BTreeMap<K, u8>> = strict(&text).ok();
                assert_eq!(read, serde_json::from_str(&text).ok(), "{text}");
            }
        }
        same::<u8>();
        same::<u64>();
        same::<i64>();
        same::<u128>();
        same::<i128>();
        same::<bool>();
        same::<char>();
        same::<String>();
        same::<Option<String>>();
        same::<std::cmp::Reverse<i32>>();
        same::<()>();
        same::<Vec<u8>>();
        assert!(strict::<HashMap<bool, u8>>(r#"{"ä":1}"#).is_err());
        assert_eq!(strict(r#"{"\u0031":2}"#), Ok(HashMap::from([(1, 2)])));
    }

    #[test]
    fn what_is_skipped_is_held_to_the_same_rules() {
        let read = |text: &str| strict::<(u8, IgnoredAny)>(text);
        assert!(read(r#"[1,{"a":[1e99,{"a":"\ud83d\ude00"}],"b":123456789012345678901}]"#).is_ok());
        for skipped in [
            r#"[{"a":1,"a":2}]"#,
            r#"{"more":1,"also":2,"m\u006fre":3}"#,
            r#""\ud800""#,
            r#"{"\udc00":1}"#,
        ] {
            assert!(read(&format!("[1,{skipped}]")).is_err(), "{skipped}");
        }
    }

    #[test]
    fn what_is_read_or_skipped_is_at_most_127_deep() {
        let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
        let read = |text: &str| {
            let fds = crate::Fds::new;
            let value = decode::<Json<Value>>(text.as_bytes(), fds(), Surplus::Refuse).map(drop);
            let nothing = decode::<Json<IgnoredAny>>(text.as_bytes(), fds(), Surplus::Refuse);
            assert_eq!(value, nothing.map(drop));
            value
        };
        let limit = 127;
        assert_eq!(read(&nested(limit)), Ok(()));
        assert_eq!(
            read(&nested(limit + 1)),
            Err(DecodeError::TooDeep { limit })
        );
        assert_eq!(read(&nested(50_000)), Err(DecodeError::TooDeep { limit }));
    }

    #[test]
    fn bytes_are_what_text_may_be() {
        let read = |text| strict::<CString>(text).map(CString::into_bytes);
        assert_eq!(read(r#""a\u00e4\n""#), Ok("aä\n".into()));
        assert_eq!(read("[97,98]"), Ok("ab".into()));
        assert_eq!(strict::<&[u8]>(r#""ab""#), Ok(&b"ab"[..]));
        for text in [
            r#""\ud800""#,
            "\"a\nb\"",
            r#""a\u0000""#,
            "[97,256]",
            "1",
            "null",
            "{}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn text_is_borrowed_and_wide_numbers_are_whole() {
        assert_eq!(strict(r#"["a",["b"]]"#), Ok(("a", vec!["b"])));
        assert_eq!(
            strict::<BTreeMap<&str, &str>>(r#"{"a":"b"}"#).unwrap()["a"],
            "b"
        );
        assert_eq!(strict(&u128::MAX.to_string()), Ok(u128::MAX));
        assert_eq!(strict(&i128::MIN.to_string()), Ok(i128::MIN));
        assert_eq!(strict(&format!("[{}]", i128::MAX)), Ok(Some([i128::MAX])));
    }
}
