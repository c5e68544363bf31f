//! [`Session`] over tract: the graph is optimised once for any sequence length and then shared by
//! all threads; a call makes its own scratch state.

use super::session::{Elements, Input, InputKind, Output, Session};
use crate::BuildError;
use std::path::Path;
use tract_onnx::prelude::*;

/// A graph in tract.
pub(crate) struct TractSession {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<String>,
}

impl TractSession {
    /// Loads and optimises a graph.
    pub(crate) fn load(model: &Path, kind: InputKind, outputs: &[&str]) -> Result<TractSession, BuildError> {
        let (plan, inputs) =
            plan(model, kind, outputs).map_err(|e| BuildError::input(model, format!("tract cannot load it: {e:#}")))?;
        Ok(TractSession { plan, inputs })
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn run(&self, inputs: Vec<Input>) -> Result<Output, String> {
        run(&self.plan, inputs).map_err(|e| format!("{e:#}"))
    }
}

fn plan(path: &Path, kind: InputKind, outputs: &[&str]) -> TractResult<(Arc<TypedRunnableModel>, Vec<String>)> {
    let mut model = tract_onnx::onnx().model_for_path(path)?;
    let input_nodes: Vec<usize> = model.input_outlets()?.iter().map(|outlet| outlet.node).collect();
    let inputs: Vec<String> = input_nodes.iter().map(|node| model.node(*node).name.clone()).collect();
    let length = model.symbols.sym("length");
    for index in 0..inputs.len() {
        let fact = match kind {
            InputKind::Tokens => InferenceFact::dt_shape(i64::datum_type(), tvec![1.to_dim(), length.to_dim()]),
            InputKind::Pixels { height, width } => {
                InferenceFact::dt_shape(f32::datum_type(), tvec![1, 3, height, width])
            }
        };
        model.set_input_fact(index, fact)?;
    }
    let available = model.output_outlets()?.to_vec();
    let named = |outlet: &OutletId, name: &str| {
        model.outlet_label(*outlet) == Some(name) || model.node(outlet.node).name == name
    };
    let chosen = outputs.iter().find_map(|name| available.iter().find(|outlet| named(outlet, name)));
    let chosen = chosen.or(available.first()).copied().ok_or_else(|| TractError::msg("the graph has no output"))?;
    model.select_output_outlets(&[chosen])?;
    Ok((model.into_optimized()?.into_runnable()?, inputs))
}

fn run(plan: &Arc<TypedRunnableModel>, inputs: Vec<Input>) -> TractResult<Output> {
    let tensors = inputs.into_iter().map(|input| {
        let tensor = match input.elements {
            Elements::I64(values) => Tensor::from_shape(&input.shape, &values)?,
            Elements::F32(values) => Tensor::from_shape(&input.shape, &values)?,
        };
        Ok(tensor.into_tvalue())
    });
    let outputs = plan.run(tensors.collect::<TractResult<TVec<TValue>>>()?)?;
    let output = outputs[0].cast_to::<f32>()?;
    let view = output.to_plain_array_view::<f32>()?;
    Ok(Output { shape: view.shape().to_vec(), values: view.iter().copied().collect() })
}
