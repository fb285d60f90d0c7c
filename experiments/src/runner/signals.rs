//! SIGINT, SIGTERM and SIGUSR1 ask for a stop; a second one ends the process at once.
use mtl_core::{Error, Result};
use signal_hook::{consts, flag};
use std::sync::{Arc, atomic::AtomicBool};

/// Exit code of an interrupted run.
pub(super) const INTERRUPTED: i32 = 130;

/// Installs the handlers and returns the flag they set. Call it once per process.
///
/// # Errors
///
/// [`Error::Io`] when the system refuses a handler.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let install = || {
        for signal in [
            consts::SIGINT,
            consts::SIGTERM,
            #[cfg(unix)]
            consts::SIGUSR1,
        ] {
            // In this order: the first signal finds the flag unset and sets it, the second exits.
            flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        // A file that reaches its size limit is an error of the write, not the end of the process.
        #[cfg(unix)]
        flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(())
    };
    install().map_err(|e| Error::io("handle", "signals", e))?;
    Ok(stop)
}
