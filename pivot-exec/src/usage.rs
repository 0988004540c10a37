//! What a stage's process has used, as the kernel counted it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time and memory of a process, with the children that it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user code.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The most memory that one of the processes held at any time, in bytes. A fork holds what
    /// its parent had from its first moment on.
    pub peak_bytes: u64,
}

impl Usage {
    /// Processor time, whoever spent it.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}
