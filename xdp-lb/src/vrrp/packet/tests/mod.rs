//! Tests of the codec: captured bytes, the HMAC's vectors, properties.

mod golden;
mod properties;
mod trailer;
