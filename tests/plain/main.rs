//! Tests that need nothing but a directory. `make check` runs them.

mod cache;
mod cached;
mod ends;
mod features;
mod layers;
mod libvirt;
mod names;
mod probe;
mod profile;
mod readme;
mod reasons;
mod run;
mod stamp;
mod threats;
mod trigger;
mod untouched;
mod trouble;
mod update;
mod witness;
