//! Parameters by name, such as `blocks.0.lru.in_proj_re.slices.1.weight`: for files, for the
//! optimizer's rules and for tests.

use crate::Divergence;
use crate::ops::{Real, host_values};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use std::collections::BTreeMap;

/// Shape and elements of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamValues<T = f32> {
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<T>,
}

/// The dotted path of the parameter being visited.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

/// All parameters of a module, by name, as f32 or f64.
pub fn named_params<T: Real, B: Backend, M: Module<B>>(module: &M) -> BTreeMap<String, ParamValues<T>> {
    let mut reader = Reader { path: Path::default(), found: BTreeMap::new() };
    module.visit(&mut reader);
    reader.found
}

/// Replaces every parameter of a module, element type included.
///
/// # Errors
/// The first parameter that is missing or has another shape, named; or one too many.
pub fn load_params<T: Real, B: Backend, M: Module<B>>(
    module: M,
    values: &BTreeMap<String, ParamValues<T>>,
) -> Result<M, String> {
    let mut loader = Loader { path: Path::default(), values, used: 0, problem: None };
    let module = module.map(&mut loader);
    match loader.problem {
        Some(problem) => Err(problem),
        None if loader.used != values.len() => {
            Err(format!("holds {} parameters and the model has {}", values.len(), loader.used))
        }
        None => Ok(module),
    }
}

/// Refuses parameters of which a value is not finite: they would be written and never be good again.
///
/// # Errors
/// The first such parameter.
pub(crate) fn check_finite(params: &BTreeMap<String, ParamValues>) -> Result<(), Divergence> {
    match params.iter().find(|(_, param)| param.values.iter().any(|value| !value.is_finite())) {
        Some((name, _)) => Err(Divergence::Parameter(name.clone())),
        None => Ok(()),
    }
}

struct Reader<T> {
    path: Path,
    found: BTreeMap<String, ParamValues<T>>,
}

impl<T: Real, B: Backend> ModuleVisitor<B> for Reader<T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        self.found.insert(self.path.name(), ParamValues { shape, values: host_values(tensor) });
    }
}

struct Loader<'a, T> {
    path: Path,
    values: &'a BTreeMap<String, ParamValues<T>>,
    used: usize,
    problem: Option<String>,
}

impl<T: Real, B: Backend> ModuleMapper<B> for Loader<'_, T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.name();
        let shape = param.dims();
        match self.values.get(&name) {
            Some(found) if found.shape == shape => {
                self.used += 1;
                param.map(|old| {
                    let data = TensorData::new(found.values.clone(), shape);
                    let fresh = Tensor::from_data(data, (&old.device(), T::dtype()));
                    if old.is_require_grad() { fresh.require_grad() } else { fresh }
                })
            }
            found => {
                let what = found.map_or("is missing".to_owned(), |found| format!("has shape {:?}", found.shape));
                self.problem.get_or_insert(format!("parameter {name} {what}; shape {shape:?} is expected"));
                param
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_finite_is_named_by_its_parameter() {
        let check = |spoilt: f32, expect: Result<(), Divergence>| {
            let param = |value| ParamValues { shape: vec![2], values: vec![1.0, value] };
            let params = BTreeMap::from([("a".to_owned(), param(0.0)), ("b".to_owned(), param(spoilt))]);
            assert_eq!(check_finite(&params), expect, "{spoilt}");
        };
        check(f32::MAX, Ok(()));
        for spoilt in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            check(spoilt, Err(Divergence::Parameter("b".into())));
        }
    }
}
