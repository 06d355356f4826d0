//! What users type: one file per command.

pub mod check;
pub mod realserver;
