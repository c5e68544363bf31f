//! Ctrl-C and SIGTERM. The first one asks the work to stop at its next safe point; the second one
//! ends the program at once. Artefacts are renamed into place, so even that loses no finished one.

use crate::failure::INTERRUPTED;
use anyhow::Context as _;
use tokio::sync::watch;

/// Whether the user has asked to stop. Clones see the same request.
#[derive(Clone)]
pub(crate) struct Interrupt {
    stop: watch::Receiver<bool>,
}

impl Interrupt {
    /// Takes over the signals; call it once a process. `promise` is told on the first signal, since
    /// the stop itself may take some seconds.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub(crate) fn install(promise: &'static str) -> anyhow::Result<Interrupt> {
        let (sender, stop) = watch::channel(false);
        ctrlc::set_handler(move || {
            let first = !sender.send_replace(true);
            if !first {
                std::process::exit(i32::from(INTERRUPTED));
            }
            crate::output::note(promise);
        })
        .context("taking over Ctrl-C")?;
        Ok(Interrupt { stop })
    }

    /// True once the user asked to stop.
    pub(crate) fn requested(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the user asks to stop.
    pub(crate) async fn wait(mut self) {
        // The sender lives in the signal handler for the life of the process: an error here would
        // mean that no signal can come any more, so never resolving is right.
        if self.stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
