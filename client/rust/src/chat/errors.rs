//! What ends a chat.

use std::{fmt, sync::Arc};

use async_openai::error::OpenAIError;

use crate::{BoxError, ConfigError, RpcError};

/// The model's answer broke off, reports an error or cannot be read. Nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModelError(pub(crate) String);

/// What hooks of the application failed with: one error, or several where a turn asked for several
/// decisions.
#[derive(Clone, Debug)]
pub struct HookError {
    errors: Vec<Arc<BoxError>>,
}

impl HookError {
    /// The errors, in the order in which they occurred; at least one.
    pub fn errors(&self) -> impl Iterator<Item = &(dyn std::error::Error + Send + Sync + 'static)> {
        self.errors.iter().map(|error| &***error)
    }

    /// All errors as one; None where there are none.
    pub(crate) fn join(errors: Vec<Self>) -> Option<Self> {
        let errors: Vec<_> = errors.into_iter().flat_map(|error| error.errors).collect();
        (!errors.is_empty()).then_some(Self { errors })
    }
}

impl From<BoxError> for HookError {
    fn from(error: BoxError) -> Self {
        Self {
            errors: vec![Arc::new(error)],
        }
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.errors.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for HookError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.errors.first().and_then(|error| error.source())
    }
}

/// What ended a chat.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The sidecar cannot be reached or refused a request.
    #[error(transparent)]
    Sidecar(#[from] RpcError),
    /// The model's answer broke off, reports an error or cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The provider cannot be reached or refused a request.
    #[error("{0}")]
    Provider(Arc<OpenAIError>),
    /// A hook of the application failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A choice makes no sense, or a tool that was chosen by name is not there.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

impl ChatError {
    pub(crate) fn model(text: impl Into<String>) -> Self {
        Self::Model(ModelError(text.into()))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(ConfigError(text.into()))
    }
}
