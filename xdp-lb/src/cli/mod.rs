//! What users type: one file per verb.

pub mod check;
pub mod list;
mod output;
pub mod realserver;
pub mod status;
