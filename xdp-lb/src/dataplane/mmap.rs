//! mmap
