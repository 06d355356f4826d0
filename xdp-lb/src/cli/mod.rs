//! What users type: one file per command.

pub mod list;
mod output;
pub mod status;
