//! Tests that need nothing but a directory. `make check` runs them.

mod bound;
mod cache;
mod cached;
mod damage;
mod ends;
mod features;
mod layers;
mod libvirt;
mod libvirt_losses;
mod messages;
mod names;
mod pages;
mod probe;
mod profile;
mod reasons;
mod run;
mod search;
mod stamp;
mod status;
mod terminal;
mod threats;
mod trigger;
mod trouble;
mod untouched;
mod update;
mod witness;
