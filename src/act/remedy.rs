//! Remedies: the caches of other programs that a profile names are made good after a change.
//!
//! # The rule
//!
//! A [`ForeignCache`](crate::observe::foreign_cache::ForeignCache) is stale if a stamp was touched
//! since its last remedy, or if that remedy failed. A touch is a change: each stale cache gets its
//! remedy once, however many packages brought the touch. A fresh cache is left alone.
//!
//! | occasion | files are removed | commands run | libvirt's rule |
//! | --- | --- | --- | --- |
//! | a touch, such as a transaction's end | yes | no: it must stay out of the way | yes |
//! | `update --no-commands`, as by the unit | yes | no: `refresh --stale` follows | yes |
//! | an update, and a refresh | yes | yes, for `/` alone, and not while an image is built | yes |
//! | a probe by `run` or `cached` | yes | no | no |
//!
//! `follow.rs` applies libvirt's rule, which has a record of its own.
//!
//! # Whose
//!
//! Root makes the system's caches good. A cache in a user's directory is made good by that user
//! alone: root never writes in another user's home.
//!
//! # The order
//!
//! The stamps are read first, then the remedy is applied, then the record is kept. So a touch that
//! comes meanwhile makes the cache stale again.
//!
//! # The files
//!
//! | file | word |
//! | --- | --- |
//! | `find` | the search for the files of a cache, by descriptor |
//! | `places` | the directories that a file of a cache may be in |
//! | `program` | a program that a remedy runs |
//! | `record` | the record of the last remedy of each cache |
//! | `cure` | one remedy applied to one cache |
//! | `round` | all remedies that are due, and the record of them |
//! | `standing` | whether each cache is fresh, for people |
//! | `before_probe` | the remedies before a probe, and the doubt that is left |

pub(crate) mod before_probe;
pub(crate) mod cure;
mod find;
mod places;
mod program;
pub(crate) mod record;
pub(crate) mod round;
pub(crate) mod standing;
