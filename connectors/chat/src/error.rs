//! Why a question has no answer.

use segue_fetch::ClientError;
use segue_flow::Remedy;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A setting cannot be meant.
    #[error("endpoint.{key}: {detail}")]
    Setting {
        /// The key, under `endpoint`.
        key: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The question was not sent: the key is not where it should be, or would be sent in the clear.
    #[error("endpoint.key: {0}")]
    Client(ClientError),
    /// The endpoint does not let us in, or is not there: no question would be answered.
    #[error(
        "{address} answered with status {status}: {detail}; check the address, the model's name and \
         endpoint.key"
    )]
    Denied {
        /// Whom we asked.
        address: String,
        /// What it said.
        status: u16,
        /// And why.
        detail: String,
    },
    /// The next question might cost more than is left.
    #[error(
        "endpoint.budget: {spent:.4} of {budget} are spent, and the next question may cost {next:.4}"
    )]
    Budget {
        /// What may be spent.
        budget: f64,
        /// What has been.
        spent: f64,
        /// What is to be feared.
        next: f64,
    },
    /// The endpoint does not say how many tokens it took, so that a budget cannot be held.
    #[error(
        "{address} does not say how many tokens an answer took (`usage`), so that endpoint.budget cannot \
         be held; set it to 0, or ask elsewhere"
    )]
    Uncosted {
        /// Whom we asked.
        address: String,
    },
    /// We were asked to stop.
    #[error("stopped")]
    Stopped,
    /// The endpoint refuses this question.
    #[error("the endpoint refused the question with status {status}: {detail}")]
    Refused {
        /// What it said.
        status: u16,
        /// And why.
        detail: String,
    },
    /// Its answers to this question are none, asked twice.
    #[error("{0}")]
    Unusable(String),
    /// It did not answer this question, however often it was asked.
    #[error("no answer after {attempts} attempts: {detail}")]
    GaveUp {
        /// How often.
        attempts: u32,
        /// The last failure.
        detail: String,
    },
}

// Its words are a part of ours; as a source it would be said twice.
impl From<ClientError> for ChatError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl ChatError {
    /// What is to be done about it. [`Remedy::DeadLetter`]: this question alone has no answer.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Setting { .. }
            | Self::Client(_)
            | Self::Denied { .. }
            | Self::Budget { .. }
            | Self::Uncosted { .. } => Remedy::Configure,
            Self::Stopped => Remedy::Retry,
            Self::Refused { .. } | Self::Unusable(_) | Self::GaveUp { .. } => Remedy::DeadLetter,
        }
    }
}
