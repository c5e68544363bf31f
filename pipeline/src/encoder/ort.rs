//! [`Session`] over ONNX Runtime, loaded from a shared library: nothing is linked or downloaded.
//!
//! A session takes calls one at a time and uses all threads within a call.

use super::session::{Elements, Input, Output, Session};
use crate::BuildError;
use ort::environment::Environment;
use ort::session::SessionInputValue;
use ort::value::Tensor;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// The process's one environment: ONNX Runtime allows no second one.
static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();

/// A graph in ONNX Runtime.
pub(crate) struct OrtSession {
    session: Mutex<ort::session::Session>,
    inputs: Vec<String>,
    output: String,
}

impl OrtSession {
    /// Loads the library, once a process, and the graph.
    pub(crate) fn load(library: &Path, model: &Path, outputs: &[&str]) -> Result<OrtSession, BuildError> {
        let environment = ENVIRONMENT
            .get_or_init(|| {
                let builder = ort::init_from(library).map_err(|e| e.to_string())?;
                builder.build().map_err(|e| e.to_string())
            })
            .as_ref()
            .map_err(|e| BuildError::input(library, format!("is no ONNX Runtime that loads: {e}")))?;
        let unloadable = |e: ort::Error| BuildError::input(model, format!("ONNX Runtime cannot load it: {e}"));
        let mut builder = ort::session::Session::builder(environment).map_err(unloadable)?;
        let session = builder.commit_from_file(model).map_err(unloadable)?;
        let inputs = session.inputs().iter().map(|input| input.name().to_owned()).collect();
        let available: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
        let chosen = outputs.iter().find(|name| available.contains(name)).or(available.first());
        let output = chosen.ok_or_else(|| BuildError::input(model, "has no output"))?.to_string();
        Ok(OrtSession { session: Mutex::new(session), inputs, output })
    }

    fn call(&self, inputs: Vec<Input>) -> ort::Result<Output> {
        let mut values: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (name, input) in self.inputs.iter().zip(inputs) {
            let value = match input.elements {
                Elements::I64(elements) => Tensor::from_array((input.shape, elements))?.into_dyn(),
                Elements::F32(elements) => Tensor::from_array((input.shape, elements))?.into_dyn(),
            };
            values.push((name.clone(), value.into()));
        }
        // A panic of another thread leaves the session as it was: it holds no state between calls.
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let outputs = session.run(values)?;
        let (shape, values) = outputs[self.output.as_str()].try_extract_tensor::<f32>()?;
        Ok(Output { shape: shape.iter().map(|size| *size as usize).collect(), values: values.to_vec() })
    }
}

impl Session for OrtSession {
    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn run(&self, inputs: Vec<Input>) -> Result<Output, String> {
        self.call(inputs).map_err(|e| e.to_string())
    }
}
