//! What users type: one file per command.

pub mod realserver;
