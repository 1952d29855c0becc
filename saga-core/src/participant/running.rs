//! A participant on its own: started on a store and a transport, and stopped.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use super::service::Service;
use super::{Inbox, Participant};
use crate::Error;
use crate::transport::Transport;
use crate::transport::erased::{DynTransport, Erased};

impl<Conn: Send + 'static> Participant<Conn> {
    /// Starts to take commands, on a store and a transport, until it is shut down.
    ///
    /// Runs on the current Tokio runtime, and panics outside one. Creates the topics that it needs if
    /// they do not exist. A broker or a database that is away is waited for; a command is never given up for that.
    pub fn start<S>(self, store: S, transport: impl Transport) -> RunningParticipant
    where
        S: Inbox<Connection = Conn>,
    {
        let transport: Arc<dyn DynTransport> = Arc::new(Erased(transport));
        let stop = CancellationToken::new();
        let span = info_span!("participant", name = %self.name);
        let service = Service::new(self, store, transport, stop.clone());
        RunningParticipant { stop, task: Some(tokio::spawn(service.run().instrument(span))) }
    }
}

/// A participant that takes commands. Dropping it stops it without waiting.
#[must_use = "a participant that is dropped stops"]
pub struct RunningParticipant {
    stop: CancellationToken,
    /// Gone once its end was told.
    task: Option<JoinHandle<Result<(), Error>>>,
}

impl RunningParticipant {
    /// Finishes the transaction and the calls in hand (within 4 s), waits for the broker to have the replies (at most
    /// 3 s), and leaves the group. It takes 10 s at most, whatever does not answer.
    ///
    /// What takes longer than 4 s is rolled back, and carried out anew by whoever has the partition next.
    ///
    /// # Errors
    ///
    /// What made it stop before it was asked to, if something did.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.stop.cancel();
        self.stopped().await
    }

    /// Waits until it stops by itself, which it does only for an error that no retry can mend.
    ///
    /// # Errors
    ///
    /// That error.
    ///
    /// # Cancel safety
    ///
    /// It goes on when the future is dropped.
    pub async fn stopped(&mut self) -> Result<(), Error> {
        let Some(running) = &mut self.task else { return Ok(()) };
        let stopped = running.await.unwrap_or(Err(Error::Stopped));
        self.task = None;
        stopped
    }
}

impl Drop for RunningParticipant {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for RunningParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningParticipant").finish_non_exhaustive()
    }
}
