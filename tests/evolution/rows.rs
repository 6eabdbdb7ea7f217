//! The changes.

use super::*;

row! { a_method_is_added,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> u8; fn n(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } fn n(&mut self) -> u8 { 2 } }
    |c| good(c.m()), |c| good(c.m()), |c| good(c.n()), Works, FailsIfUsed
}
row! { a_method_is_removed,
    old { fn m(&mut self) -> u8; fn n(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } fn n(&mut self) -> u8 { 2 } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()) && good(c.n()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_method_is_renamed,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn n(&mut self) -> u8; } { fn n(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |_| true, |c| good(c.n()), Breaks, FailsIfUsed
}
row! { a_method_is_renamed_and_keeps_its_old_name,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[serde(alias = "m")] fn n(&mut self) -> u8; } { fn n(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.n()), |_| true, Works, Breaks
}
row! { a_method_gets_another_name,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[serde(alias = "k")] fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_method_loses_an_older_name,
    old { #[serde(alias = "k")] fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.as_ref().call::<u8, Infallible>("test.thing.k", &nothing())), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_method_is_deprecated,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[deprecated] fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { an_optional_argument_is_added,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: u8, b: Option<u8>) -> u8; } { fn m(&mut self, a: u8, _: Option<u8>) -> u8 { a } }
    |c| good(c.m(1)), |c| good(c.m(1, None)), |c| good(c.m(1, Some(2))), Works, FailsIfUsed
}
row! { a_required_argument_is_added,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: u8, b: u8) -> u8; } { fn m(&mut self, a: u8, _: u8) -> u8 { a } }
    |c| good(c.m(1)), |c| good(c.m(1, 2)), |_| true, Breaks, Breaks
}
row! { an_argument_is_removed,
    old { fn m(&mut self, a: u8, b: u8) -> u8; } { fn m(&mut self, a: u8, _: u8) -> u8 { a } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(1, 2)), |c| good(c.m(1)), |_| true, Breaks, Breaks
}
row! { an_optional_argument_is_removed,
    old { fn m(&mut self, a: u8, b: Option<u8>) -> u8; } { fn m(&mut self, a: u8, _: Option<u8>) -> u8 { a } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(1, Some(2))), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { an_argument_is_renamed_and_keeps_its_old_name,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, #[serde(alias = "a")] b: u8) -> u8; } { fn m(&mut self, b: u8) -> u8 { b } }
    |c| good(c.m(1)), |c| good(c.m(1)), |_| true, Works, Breaks
}
row! { an_argument_becomes_optional,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: Option<u8>) -> u8; } { fn m(&mut self, a: Option<u8>) -> u8 { a.unwrap_or(1) } }
    |c| good(c.m(1)), |c| good(c.m(Some(1))), |c| good(c.m(None)), Works, FailsIfUsed
}
row! { an_argument_becomes_required,
    old { fn m(&mut self, a: Option<u8>) -> u8; } { fn m(&mut self, a: Option<u8>) -> u8 { a.unwrap_or(1) } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(None)), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { an_integer_argument_takes_more,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: u16) -> u8; } { fn m(&mut self, _: u16) -> u8 { 1 } }
    |c| good(c.m(1)), |c| good(c.m(1)), |c| good(c.m(300)), Works, FailsIfUsed
}
row! { an_integer_argument_takes_less,
    old { fn m(&mut self, a: u16) -> u8; } { fn m(&mut self, _: u16) -> u8 { 1 } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(300)), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { an_integer_argument_becomes_a_string,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: String) -> u8; } { fn m(&mut self, _: String) -> u8 { 1 } }
    |c| good(c.m(1)), |c| good(c.m("1")), |_| true, Breaks, Breaks
}
row! { an_integer_argument_becomes_a_float,
    old { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    new { fn m(&mut self, a: f64) -> u8; } { fn m(&mut self, _: f64) -> u8 { 1 } }
    |c| good(c.m(1)), |c| good(c.m(1.0)), |_| true, Works, Breaks
}
row! { a_float_argument_becomes_an_integer,
    old { fn m(&mut self, a: f64) -> u8; } { fn m(&mut self, _: f64) -> u8 { 1 } }
    new { fn m(&mut self, a: u8) -> u8; } { fn m(&mut self, a: u8) -> u8 { a } }
    |c| good(c.m(1.0)), |c| good(c.m(1)), |_| true, Breaks, Works
}
row! { a_string_argument_becomes_an_enum,
    old { fn m(&mut self, a: String) -> u8; } { fn m(&mut self, _: String) -> u8 { 1 } }
    new { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    |c| good(c.m("other")), |c| good(c.m(Two::A)), |_| true, Breaks, Works
}
row! { an_enum_argument_becomes_a_string,
    old { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    new { fn m(&mut self, a: String) -> u8; } { fn m(&mut self, _: String) -> u8 { 1 } }
    |c| good(c.m(Two::B)), |c| good(c.m("A")), |c| good(c.m("other")), Works, FailsIfUsed
}
row! { an_argument_gets_a_variant,
    old { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    new { fn m(&mut self, a: Three) -> u8; } { fn m(&mut self, _: Three) -> u8 { 1 } }
    |c| good(c.m(Two::A)), |c| good(c.m(Three::B)), |c| good(c.m(Three::C)), Works, FailsIfUsed
}
row! { an_argument_loses_a_variant,
    old { fn m(&mut self, a: Three) -> u8; } { fn m(&mut self, _: Three) -> u8 { 1 } }
    new { fn m(&mut self, a: Two) -> u8; } { fn m(&mut self, _: Two) -> u8 { 1 } }
    |c| good(c.m(Three::C)), |c| good(c.m(Two::A)), |_| true, Breaks, Works
}
row! { a_variant_in_an_argument_gets_a_member,
    old { fn m(&mut self, a: Filled) -> u8; } { fn m(&mut self, _: Filled) -> u8 { 1 } }
    new { fn m(&mut self, a: FilledMore) -> u8; } { fn m(&mut self, _: FilledMore) -> u8 { 1 } }
    |c| good(c.m(Filled::B(1))) && good(c.m(Filled::A { size: 1 })),
    |c| good(c.m(FilledMore::A { size: 1, name: "x".into() })), |c| good(c.m(FilledMore::B(1))), Breaks, Works
}
row! { a_struct_in_an_argument_gets_a_required_member,
    old { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    new { fn m(&mut self, a: Pair) -> u8; } { fn m(&mut self, a: Pair) -> u8 { a.a + a.b } }
    |c| good(c.m(One::default())), |c| good(c.m(Pair::default())), |_| true, Breaks, Works
}
row! { a_struct_in_an_argument_gets_a_member_with_a_default,
    old { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    new { fn m(&mut self, a: Lenient) -> u8; } { fn m(&mut self, a: Lenient) -> u8 { a.a + a.b } }
    |c| good(c.m(One::default())), |c| good(c.m(Lenient::default())), |_| true, Works, Works
}
row! { a_struct_in_an_argument_loses_a_member,
    old { fn m(&mut self, a: Pair) -> u8; } { fn m(&mut self, a: Pair) -> u8 { a.a + a.b } }
    new { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    |c| good(c.m(Pair::default())), |c| good(c.m(One::default())), |_| true, Works, Breaks
}
row! { a_member_in_an_argument_is_renamed_and_keeps_its_old_name,
    old { fn m(&mut self, a: One) -> u8; } { fn m(&mut self, a: One) -> u8 { a.a } }
    new { fn m(&mut self, a: Named) -> u8; } { fn m(&mut self, a: Named) -> u8 { a.b } }
    |c| good(c.m(One::default())), |c| good(c.m(Named::default())), |_| true, Works, Breaks
}
row! { a_result_gets_a_variant,
    old { fn m(&mut self) -> Two; } { fn m(&mut self) -> Two { Two::A } }
    new { fn m(&mut self) -> Three; } { fn m(&mut self) -> Three { Three::C } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_result_that_takes_others_gets_a_variant,
    old { fn m(&mut self) -> Open; } { fn m(&mut self) -> Open { Open::A } }
    new { fn m(&mut self) -> Two; } { fn m(&mut self) -> Two { Two::B } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_result_loses_a_variant,
    old { fn m(&mut self) -> Three; } { fn m(&mut self) -> Three { Three::C } }
    new { fn m(&mut self) -> Two; } { fn m(&mut self) -> Two { Two::A } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_gets_a_member,
    old { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    new { fn m(&mut self) -> Pair; } { fn m(&mut self) -> Pair { Pair::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_gets_an_optional_member,
    old { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    new { fn m(&mut self) -> Maybe; } { fn m(&mut self) -> Maybe { Maybe::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_result_gets_a_descriptor,
    old { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    new { fn m(&mut self) -> WithFile; } { fn m(&mut self) -> WithFile { WithFile { a: 1, file: null() } } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_loses_a_member,
    old { fn m(&mut self) -> Pair; } { fn m(&mut self) -> Pair { Pair::default() } }
    new { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_result_loses_an_optional_member,
    old { fn m(&mut self) -> Maybe; } { fn m(&mut self) -> Maybe { Maybe::default() } }
    new { fn m(&mut self) -> One; } { fn m(&mut self) -> One { One::default() } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { an_integer_in_a_result_has_more_values,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> u16; } { fn m(&mut self) -> u16 { 300 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { an_integer_in_a_result_has_fewer_values,
    old { fn m(&mut self) -> u16; } { fn m(&mut self) -> u16 { 300 } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_result_may_be_null,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self) -> Option<u8>; } { fn m(&mut self) -> Option<u8> { None } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_result_is_never_null_any_more,
    old { fn m(&mut self) -> Option<u8>; } { fn m(&mut self) -> Option<u8> { None } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_list_in_a_result_gets_a_fixed_length,
    old { fn m(&mut self) -> Vec<u8>; } { fn m(&mut self) -> Vec<u8> { vec![1, 2, 3] } }
    new { fn m(&mut self) -> [u8; 2]; } { fn m(&mut self) -> [u8; 2] { [1, 2] } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { a_tuple_in_a_result_has_another_length,
    old { fn m(&mut self) -> (u8, u8); } { fn m(&mut self) -> (u8, u8) { (1, 2) } }
    new { fn m(&mut self) -> (u8, u8, u8); } { fn m(&mut self) -> (u8, u8, u8) { (1, 2, 3) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Breaks
}
row! { a_reply_becomes_a_stream,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { fn m(&mut self, call: &mut Call) -> Stream<u8>; } { fn m(&mut self, call: &mut Call) -> Stream<u8> { stream(call) } }
    |c| good(c.m()), |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)), |_| true, Breaks, Works
}
row! { a_stream_becomes_a_reply,
    old { fn m(&mut self, call: &mut Call) -> Stream<u8>; } { fn m(&mut self, call: &mut Call) -> Stream<u8> { stream(call) } }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)), |c| good(c.m()), |_| true, Works, Breaks
}
row! { items_have_another_type,
    old { fn m(&mut self, call: &mut Call) -> Stream<u8>; } { fn m(&mut self, call: &mut Call) -> Stream<u8> { stream(call) } }
    new { fn m(&mut self, call: &mut Call) -> Stream<String>; }
        { fn m(&mut self, call: &mut Call) -> Stream<String> { one_of(call, "1".to_owned()) } }
    |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)),
    |c| c.m().is_ok_and(|mut items| items.next().is_some_and(good) && items.all(good)), |_| true, Breaks, Breaks
}
row! { a_call_becomes_one_way,
    old { fn m(&mut self) -> Result<(), Infallible>; } { fn m(&mut self) -> Result<(), Infallible> { Ok(()) } }
    new { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_one_way_call_gets_a_reply,
    old { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    new { fn m(&mut self) -> Result<(), Infallible>; } { fn m(&mut self) -> Result<(), Infallible> { Ok(()) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { a_call_with_a_result_becomes_one_way,
    old { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    new { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { a_one_way_call_gets_a_result,
    old { #[oneway] fn m(&mut self); } { fn m(&mut self) {} }
    new { fn m(&mut self) -> u8; } { fn m(&mut self) -> u8 { 1 } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { an_error_is_added,
    old { fn m(&mut self) -> Result<u8, Fails>; } { fn m(&mut self) -> Result<u8, Fails> { Err(Fails::A) } }
    new { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::B) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Breaks, Works
}
row! { an_error_is_removed,
    old { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::B) } }
    new { fn m(&mut self) -> Result<u8, Fails>; } { fn m(&mut self) -> Result<u8, Fails> { Err(Fails::A) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Breaks
}
row! { an_error_is_added_beside_one_for_others,
    old { fn m(&mut self) -> Result<u8, FailsOpen>; } { fn m(&mut self) -> Result<u8, FailsOpen> { Err(FailsOpen::A) } }
    new { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::B) } }
    |c| good(c.m()), |c| good(c.m()), |_| true, Works, Works
}
row! { an_error_gets_another_code,
    old { fn m(&mut self) -> Result<u8, FailsMore>; } { fn m(&mut self) -> Result<u8, FailsMore> { Err(FailsMore::A) } }
    new { fn m(&mut self) -> Result<u8, FailsReordered>; }
        { fn m(&mut self) -> Result<u8, FailsReordered> { Err(FailsReordered::A) } }
    // Whoever tells errors by their codes.
    |c| code(c.as_ref()) == 1, |c| code(c.as_ref()) == 2, |_| true, Breaks, Breaks
}
row! { descriptors_of_more_kinds_are_taken,
    old { fn m(&mut self, #[fd] a: Regular) -> u8; } { fn m(&mut self, _: Regular) -> u8 { 1 } }
    new { fn m(&mut self, #[fd] a: Any) -> u8; } { fn m(&mut self, _: Any) -> u8 { 1 } }
    |c| good(c.m(&Regular { file: regular() })),
    |c| good(c.m(&Any { file: regular() })), |c| good(c.m(&Any { file: null() })), Works, FailsIfUsed
}
row! { descriptors_of_fewer_kinds_are_taken,
    old { fn m(&mut self, #[fd] a: Any) -> u8; } { fn m(&mut self, _: Any) -> u8 { 1 } }
    new { fn m(&mut self, #[fd] a: Regular) -> u8; } { fn m(&mut self, _: Regular) -> u8 { 1 } }
    |c| good(c.m(&Any { file: null() })), |c| good(c.m(&Regular { file: regular() })), |_| true, Breaks, Works
}

/// All rows.
pub(super) fn all() -> Vec<Row> {
    vec![
        a_method_is_added::row(),
        a_method_is_removed::row(),
        a_method_is_renamed::row(),
        a_method_is_renamed_and_keeps_its_old_name::row(),
        a_method_gets_another_name::row(),
        a_method_loses_an_older_name::row(),
        a_method_is_deprecated::row(),
        an_optional_argument_is_added::row(),
        a_required_argument_is_added::row(),
        an_argument_is_removed::row(),
        an_optional_argument_is_removed::row(),
        an_argument_is_renamed_and_keeps_its_old_name::row(),
        an_argument_becomes_optional::row(),
        an_argument_becomes_required::row(),
        an_integer_argument_takes_more::row(),
        an_integer_argument_takes_less::row(),
        an_integer_argument_becomes_a_string::row(),
        an_integer_argument_becomes_a_float::row(),
        a_float_argument_becomes_an_integer::row(),
        a_string_argument_becomes_an_enum::row(),
        an_enum_argument_becomes_a_string::row(),
        an_argument_gets_a_variant::row(),
        an_argument_loses_a_variant::row(),
        a_variant_in_an_argument_gets_a_member::row(),
        a_struct_in_an_argument_gets_a_required_member::row(),
        a_struct_in_an_argument_gets_a_member_with_a_default::row(),
        a_struct_in_an_argument_loses_a_member::row(),
        a_member_in_an_argument_is_renamed_and_keeps_its_old_name::row(),
        a_result_gets_a_variant::row(),
        a_result_that_takes_others_gets_a_variant::row(),
        a_result_loses_a_variant::row(),
        a_result_gets_a_member::row(),
        a_result_gets_an_optional_member::row(),
        a_result_gets_a_descriptor::row(),
        a_result_loses_a_member::row(),
        a_result_loses_an_optional_member::row(),
        an_integer_in_a_result_has_more_values::row(),
        an_integer_in_a_result_has_fewer_values::row(),
        a_result_may_be_null::row(),
        a_result_is_never_null_any_more::row(),
        a_list_in_a_result_gets_a_fixed_length::row(),
        a_tuple_in_a_result_has_another_length::row(),
        a_reply_becomes_a_stream::row(),
        a_stream_becomes_a_reply::row(),
        items_have_another_type::row(),
        a_call_becomes_one_way::row(),
        a_one_way_call_gets_a_reply::row(),
        a_call_with_a_result_becomes_one_way::row(),
        a_one_way_call_gets_a_result::row(),
        an_error_is_added::row(),
        an_error_is_removed::row(),
        an_error_is_added_beside_one_for_others::row(),
        an_error_gets_another_code::row(),
        descriptors_of_more_kinds_are_taken::row(),
        descriptors_of_fewer_kinds_are_taken::row(),
    ]
}
