//! The last touch of a stamp: when, by whom and why.

use modstamp::{Mtime, Note, Sentence, Stamp};
use serde_json::{Value, json};

use super::time::{age, ago, local};

/// The last touch of a stamp.
pub enum LastTouch {
    Never,
    At(Mtime, Author),
}

/// The author of a touch.
pub enum Author {
    Noted(Note),
    /// The caller may not read the stamp.
    Hidden,
    /// The note is of an earlier touch, as after one by another program.
    NotNoted,
}

impl LastTouch {
    pub fn of(stamp: &Stamp) -> modstamp::Result<LastTouch> {
        Ok(match stamp.mtime()? {
            None => LastTouch::Never,
            Some(mtime) => {
                let note = stamp.note().filter(|note| note.mtime == mtime);
                let read = rustix::fs::access(stamp.path(), rustix::fs::Access::READ_OK);
                let unnoted = match read {
                    Err(rustix::io::Errno::ACCESS) => Author::Hidden,
                    _ => Author::NotNoted,
                };
                LastTouch::At(mtime, note.map_or(unnoted, Author::Noted))
            }
        })
    }

    pub fn json(&self) -> Value {
        match self {
            LastTouch::Never => Value::Null,
            LastTouch::At(mtime, author) => json!({
                "mtime": mtime,
                "local": local(mtime),
                "age_seconds": age(mtime.seconds()),
                "note": match author {
                    Author::Noted(note) => Some(note),
                    Author::Hidden | Author::NotNoted => None,
                },
            }),
        }
    }

    pub fn sentence(&self) -> String {
        let LastTouch::At(mtime, author) = self else {
            return "never touched".to_owned();
        };
        let by = match author {
            Author::Noted(Note { by, why, .. }) => {
                format!("by {}: {}", Sentence(by), Sentence(why))
            }
            Author::Hidden => "by whom is not known, as you may not read the stamp".to_owned(),
            Author::NotNoted => "by whom is not known, as after a touch by hand".to_owned(),
        };
        let (local, ago) = (local(mtime), ago(age(mtime.seconds())));
        format!("touched {local} ({ago}), {by}")
    }
}
