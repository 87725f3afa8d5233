//! The last touch of a stamp: when, by whom and why.

use modstamp::{Mtime, Note, Sentence, Stamp};
use serde_json::{Value, json};

use super::time::{age, ago, local};

/// The last touch of a stamp.
pub enum LastTouch {
    Never,
    /// The note is that of this touch. A touch by another program leaves none.
    At(Mtime, Option<Note>),
}

impl LastTouch {
    pub fn of(stamp: &Stamp) -> modstamp::Result<LastTouch> {
        Ok(match stamp.mtime()? {
            None => LastTouch::Never,
            Some(mtime) => LastTouch::At(mtime, stamp.note().filter(|note| note.mtime == mtime)),
        })
    }

    pub fn json(&self) -> Value {
        match self {
            LastTouch::Never => Value::Null,
            LastTouch::At(mtime, note) => json!({
                "mtime": mtime,
                "local": local(mtime),
                "age_seconds": age(mtime.seconds()),
                "note": note,
            }),
        }
    }

    pub fn sentence(&self) -> String {
        let LastTouch::At(mtime, note) = self else {
            return "never touched".to_owned();
        };
        let by = match note {
            Some(Note { by, why, .. }) => format!("by {}: {}", Sentence(by), Sentence(why)),
            None => "by whom is not known, as after a touch by hand".to_owned(),
        };
        let (local, ago) = (local(mtime), ago(age(mtime.seconds())));
        format!("touched {local} ({ago}), {by}")
    }
}
