//! Tests that need nothing but a directory. `make check` runs them.

mod cache;
mod cached;
mod damage;
mod features;
mod layers;
mod libvirt;
mod libvirt_losses;
mod probe;
mod profile;
mod readme;
mod reasons;
mod run;
mod stamp;
mod terminal;
mod trigger;
mod update;
mod witness;
