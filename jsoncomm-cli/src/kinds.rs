//! Whether the descriptors of a call are of the kinds that the service's description asks for.

use jsoncomm::fds::FdKind;
use jsoncomm::message::RawMessage;

use crate::field::{Field, Step};
use crate::json::Json;
use crate::problem::Problem;
use jsoncomm::openrpc::{Document, Method, Type};

/// Reports the first that is not. What is not described is left to the server.
pub(crate) fn check(
    document: &Document,
    method: &Method,
    params: &RawMessage,
) -> Result<(), Problem> {
    let Ok(json) = Json::parse(&params.json) else {
        return Ok(());
    };
    let mut walk = Walk {
        document,
        params,
        at: Field::default(),
    };
    for (place, param) in method.params.iter().enumerate() {
        let value = json.get(&param.name).or_else(|| json.elements().get(place));
        walk.step(Step::Member(param.name.clone()), value, &param.ty)?;
    }
    Ok(())
}

/// A walk through a value and its type.
struct Walk<'w> {
    document: &'w Document,
    params: &'w RawMessage,
    at: Field,
}

impl Walk<'_> {
    fn step(&mut self, step: Step, value: Option<&Json<'_>>, ty: &Type) -> Result<(), Problem> {
        let Some(value) = value else { return Ok(()) };
        self.at.push(step);
        self.check(value, ty)?;
        self.at.pop();
        Ok(())
    }

    fn check(&mut self, value: &Json<'_>, ty: &Type) -> Result<(), Problem> {
        match ty {
            Type::Descriptor(kind) => self.descriptor(value, *kind),
            Type::Nullable(ty) => self.check(value, ty),
            Type::Named(_) => match self.document.meaning(ty) {
                Some(ty) => self.check(value, ty),
                None => Ok(()),
            },
            Type::List(item, _) => {
                let mut all = value.elements().iter().enumerate();
                all.try_for_each(|(index, value)| {
                    self.step(Step::Element(index), Some(value), item)
                })
            }
            Type::Tuple(items) => {
                let mut all = value.elements().iter().zip(items).enumerate();
                all.try_for_each(|(index, (value, ty))| {
                    self.step(Step::Element(index), Some(value), ty)
                })
            }
            Type::Map(item) => value.members().iter().try_for_each(|(key, value)| {
                let key = Json::Scalar(key.clone()).text().unwrap_or_default();
                self.step(Step::Member(key), Some(value), item)
            }),
            Type::Object(members) => members.iter().try_for_each(|member| {
                let step = Step::Member(member.name.clone());
                self.step(step, value.get(&member.name), &member.ty)
            }),
            // The variants that the value can be.
            Type::OneOf(all) => all.iter().try_for_each(|ty| match ty {
                Type::Object(members) => {
                    let mut needed = members.iter().filter(|member| member.always);
                    if needed.all(|member| value.get(&member.name).is_some()) {
                        self.check(value, ty)
                    } else {
                        Ok(())
                    }
                }
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    }

    fn descriptor(&self, value: &Json<'_>, wanted: FdKind) -> Result<(), Problem> {
        let fd = value.index().and_then(|index| self.params.fds.get(index));
        match fd {
            Some(fd) if !wanted.fits(fd) => Err(Problem::Unfit {
                field: self.at.clone(),
                came: FdKind::of(fd),
                wanted,
            }),
            _ => Ok(()),
        }
    }
}
